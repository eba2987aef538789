"""What the plugin does once a test uses the gate: from the collected tests to the last line of the output."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lstmq import report
from lstmq.errors import one_line
from lstmq.escaping import show
from lstmq.files import to_finite
from lstmq.gate import KEY, Outcome, run_document, worst
from lstmq.gating.session import Gate
from lstmq.gating.timing import CLOCK, NotPassed

GATE = pytest.StashKey[Gate]()
ERROR = pytest.StashKey[str]()
MODEL_FIXTURE, RATIO_FIXTURE = "gate_judge", "gate_judge_ratio"
CONCLUDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


def load_gate(config: pytest.Config, folder: Path) -> Gate | None:
    """Return the gate of the session. ``None`` if an option is wrong: :func:`prepare_items` says so later.

    Args:
        config: with the options.
        folder: of the tests that use the gate.
    """
    if GATE not in config.stash and ERROR not in config.stash:
        try:
            config.stash[GATE] = Gate(config, folder)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            config.stash[ERROR] = one_line(error)
    return config.stash.get(GATE, None)


def schemes(config: pytest.Config, folder: Path) -> Sequence[str]:
    """Return the schemes of the session."""
    gate = load_gate(config, folder)
    return gate.plan.schemes if gate else ()


def prepare_items(config: pytest.Config, items: Sequence[pytest.Function]) -> None:
    """Load the gate, and let pytest-benchmark replay the seconds that it will measure.

    Skips benchmarks of lstmq itself if they do not count.

    Raises:
        pytest.UsageError: in one line, if an option is wrong, or the tests need more than one gate.
    """
    for item in items:
        load_gate(config, item.path.parent)
    if config.stash.get(ERROR, ""):
        raise pytest.UsageError(config.stash[ERROR])
    folders = sorted({item.path.parent for item in items})
    if len(folders) > 1 and not config.getoption("--gate-limits"):
        names = " and ".join(map(str, folders))
        raise pytest.UsageError(f"expected the tests of one gate, found some in {names}: run them one after the other")
    gate = config.stash[GATE]
    for item in items:
        is_of_model = MODEL_FIXTURE in item.fixturenames
        if is_of_model or RATIO_FIXTURE in item.fixturenames:
            marker = item.get_closest_marker("benchmark")
            options: dict[str, Any] = (
                dict(marker.kwargs) if marker else {"group": f"evaluate {gate.plan.tokens} tokens"}
            )
            item.add_marker(pytest.mark.benchmark(**options, timer=lambda: CLOCK[-1]), append=False)
        if not is_of_model and not gate.measures_itself:
            item.add_marker(pytest.mark.skip(reason="it measures lstmq itself, which this session does not gate"))


def note_failure(item: pytest.Function, call: pytest.CallInfo[None]) -> None:
    """Note a failure that is not a verdict. For the benchmark of a model, not having finished is already a verdict."""
    failed = call.excinfo and not call.excinfo.errisinstance((NotPassed, pytest.skip.Exception))
    if failed and (MODEL_FIXTURE not in item.fixturenames or call.when == "teardown"):
        item.config.stash[GATE].failures.append(item.nodeid)


def conclude(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Set the exit code before pytest-benchmark saves the run. An interrupted or unmeasured session is not saved."""
    if gate := concluding_gate(session.config):
        finished = exitstatus in CONCLUDED
        if finished:
            session.exitstatus = gate.conclude(failed=exitstatus == pytest.ExitCode.TESTS_FAILED)
        if not finished or not gate.is_measured:
            saving: Any = session.config
            saving = saving._benchmarksession
            saving.save = saving.autosave = saving.json = None
    return (yield)


def add_to_saved_run(gate: Gate, output_json: dict[str, object]) -> None:
    """Add the raw times and the verdicts to what pytest-benchmark saves."""
    output_json.update(to_finite(output_json))
    if gate.is_measured:
        verdicts = gate.verdicts()
        output_json[KEY] = run_document(replace(gate.run, outcome=worst(verdicts).value), verdicts)


def show_verdicts(terminal: pytest.TerminalReporter, config: pytest.Config, gate: Gate) -> None:
    """Show the verdicts and the conclusion, and write the summary and the plot."""
    verdicts, line = gate.verdicts(), terminal.line
    notes = [f"speed and size: {gate.description.speed}", f"loss: {gate.description.loss}"]
    notes += report.describe_environments(gate.run.recording) if gate.is_measured else []
    notes += [f"baseline: {gate.baseline_note}"] if gate.baseline_note else []
    notes += gate.retry_notes
    notes += [f"left out: {scheme}, which needs {need}" for scheme, need in gate.left_out.items()]
    notes += [f"note: {note}" for note in gate.input_notes]
    conclusion = "interrupted: no conclusion" if gate.exit_code is None else report.conclusion(verdicts)
    if gate.exit_code not in (None, worst(verdicts).exit_code):
        conclusion += f"; but a benchmark failed (exit code {gate.exit_code})"
    limits = os.path.relpath(gate.source.path, config.invocation_params.dir)
    terminal.section(f"the gate, with the limits of {limits}")
    for text in (*map(show, notes), "", *report.verdict_lines(verdicts), "", conclusion):
        line(text)
    if any(verdict.question == "limit" and verdict.outcome is Outcome.FAIL for verdict in verdicts):
        line(f"If these figures are what you want, set new limits: lstmq init --update {limits}")
    if (summary := os.environ.get("GITHUB_STEP_SUMMARY")) and gate.exit_code is not None:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write("\n".join([*report.verdict_markdown(verdicts, notes), "", conclusion]) + "\n")
    if (plot := config.getoption("--gate-plot")) and gate.is_measured:
        report.plot_run(gate.run, verdicts, plot)
        line(f"plotted: {plot}")


def concluding_gate(config: pytest.Config) -> Gate | None:
    """Return the gate if this process concludes the session; a worker of pytest-xdist does not."""
    concludes = not config.option.collectonly and not hasattr(config, "workerinput")
    return config.stash.get(GATE, None) if concludes else None
