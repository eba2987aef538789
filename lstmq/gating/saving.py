"""The files of pytest-benchmark: which saved runs there are, and whether results can be written."""

import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from pytest_benchmark.storage.file import FileStorage

from lstmq.files import check_replaceable


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


def check_compare(compare: str) -> None:
    """Check that the value of ``--benchmark-compare`` may be a saved run.

    Raises:
        ValueError: if it is a folder or a file of tests, or a missing file.
    """
    path = Path(compare)
    if path.is_dir() or path.suffix == ".py":
        command = f"pytest {compare} --benchmark-compare"
        raise ValueError(
            f"--benchmark-compare takes {compare} for the name of a saved run: put it last, as in `{command}`"
        )
    if (len(path.parts) > 2 or path.is_absolute()) and not path.is_file():
        raise ValueError(f"--benchmark-compare: no such file: {compare}")


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
