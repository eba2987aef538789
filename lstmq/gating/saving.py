"""The files of pytest-benchmark: the baseline among saved runs, and whether results can be written."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from pytest_benchmark.storage.file import FileStorage

from lstmq.files import check_replaceable
from lstmq.gate import Conditions, Run, read_run, select_baseline


def check_saving(config: pytest.Config) -> None:
    """Check the options of pytest-benchmark that name files, before anything is measured.

    Raises:
        ValueError: if a file would be written to where there is no folder.
        OSError: if results cannot be written.
    """
    option = config.getoption
    if json_file := option("benchmark_json"):
        check_replaceable(Path(json_file))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        check_replaceable(Path(summary))
    storage = option("benchmark_storage")
    if (option("benchmark_autosave") or option("benchmark_save")) and storage.startswith("file://"):
        folder = Path(storage.removeprefix("file://"))
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # the only reliable test whether a folder can be written to
            pass


def find_baseline(config: pytest.Config, now: Conditions, schemes: Sequence[str]) -> tuple[Run | None, str]:
    """Select the baseline among the saved runs that ``--benchmark-compare`` names.

    pytest-benchmark skips files that it cannot read. Here, a file that was asked for has to be there, and whole.

    Args:
        config: with the options.
        now: the conditions of the session.
        schemes: that the session gates.

    Returns:
        The baseline, and in words which one it is, or why there is none. Both are empty if nobody asked for one.

    Raises:
        ValueError: if a run is required, or named, and there is none; or if a file is not a run.
        OSError: if a file cannot be read.
    """
    required, compare = config.getoption("--gate-baseline") == "require", config.getoption("benchmark_compare")
    if not compare:
        if required:
            raise ValueError("--gate-baseline=require needs --benchmark-compare")
        return None, ""
    session: Any = config  # pytest-benchmark keeps its session there
    runs = map(read_run, reversed(find_saved_runs(session._benchmarksession.storage, compare)))
    return select_baseline(runs, now, schemes, named=compare is not True, required=required)


def find_saved_runs(storage: object, compare: str | bool) -> list[Path]:
    """Return the files of saved runs, the oldest first.

    Args:
        storage: pytest-benchmark's.
        compare: the name of a run, or ``True`` for all.

    Raises:
        ValueError: if the runs are not in files, or there is none of this name.
    """
    if not isinstance(storage, FileStorage):
        raise ValueError("--benchmark-compare reads saved runs from files: expected a --benchmark-storage of file://")
    query: Any = storage.query
    every: list[Path] = query("[0-9][0-9][0-9][0-9]_")
    if compare is True:
        return every
    named: list[Path] = query(compare)
    if not named:
        known = ", ".join(path.name.partition("_")[0] for path in every[-5:]) or "none"
        raise ValueError(f"--benchmark-compare: no saved run {compare} in {storage.path}; the newest are: {known}")
    return named
