"""What ``lstmq init`` does: measure a workload once, and write the files of a gate for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from lstmq.files import atomic_write, read_input
from lstmq.gate import (
    Environment,
    Limits,
    Outcome,
    Plan,
    Run,
    cap_loss,
    choose_pace,
    describe_workload,
    judge_session,
    limits_workload,
    load_limits,
    measure,
    worst,
)
from lstmq.gating.new_limits import SPEEDUP, Change, limits_file, medians, update_limits
from lstmq.progress import progress
from lstmq.quantization import SCHEMES, select_schemes
from lstmq.workload import DEFAULT_TOKENS, load_workload

BLOCKS, BPTT = 24, 25
EXAMPLE, FUNCTION = "mine.py", "workload"
TESTS, LIMITS = "test_gate.py", "limits.toml"


@dataclass(frozen=True, kw_only=True)
class NewGate:
    """A gate that was written.

    Attributes:
        files: what was written.
        run: what was measured.
        left_out: why there are no limits for a scheme, by scheme.
    """

    files: Sequence[Path]
    run: Run
    left_out: dict[str, str]


def write_gate(spec: str, command: str) -> NewGate:
    """Measure a workload, and write limits and tests beside its file.

    Args:
        spec: ``FILE.py:FUNCTION``.
        command: for the limits.

    Raises:
        ValueError: in one line, if a file is there already, or the workload cannot be measured.
    """
    file, _, function = spec.rpartition(":")
    folder = Path(file).parent
    limits, tests = folder / LIMITS, folder / TESTS
    check_absent(limits, tests)
    run, left_out = measure_once(spec, ())
    text = limits_file(run, f"{Path(file).name}:{function}", _today(), command)
    template = (files("lstmq.gating") / "test_gate.txt").read_text(encoding="utf-8")
    for path, content in ((limits, text), (tests, template.replace("MODEL", Path(file).name))):
        with atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return NewGate(files=(limits, tests), run=run, left_out=left_out)


def write_example(folder: Path) -> str:
    """Write a workload to start from, and return its ``FILE.py:FUNCTION``."""
    path = folder / EXAMPLE
    check_absent(path, folder / LIMITS, folder / TESTS)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes((files("lstmq.gating") / "example.txt").read_bytes())
    return f"{path}:{FUNCTION}"


def check_absent(*paths: Path) -> None:
    """Raise ``ValueError`` if one of the files is there."""
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is there already: `lstmq init --update {path.with_name(LIMITS)}` measures again")


def measure_again(path: Path, command: str) -> tuple[str, list[Change], Run]:
    """Measure the workload of limits again.

    Args:
        path: of the limits.
        command: for the new rows.

    Returns:
        The new text of the file, which limits changed, and what was measured.

    Raises:
        ValueError: in one line, if the file is not valid, or the workload cannot be measured.
        OSError: if the file cannot be read.
    """
    limits = load_limits(path)
    schemes = [scheme for scheme in SCHEMES if scheme in limits]
    run, _ = measure_once(limits_workload(path), schemes, limits)
    text, changes = update_limits(read_input(path).decode("utf-8"), run, path, _today(), command)
    return text, changes, run


def measure_once(spec: str | None, named: Sequence[str], limits: Limits | None = None) -> tuple[Run, dict[str, str]]:
    """Return a run of one look, and why schemes are not in it.

    Args:
        spec: ``FILE.py:FUNCTION``; ``None`` for the tutorial's model.
        named: the schemes; none for the default ones.
        limits: of the run.

    Raises:
        ValueError: if no scheme can be measured, or the machine is too noisy.
    """
    workload = load_workload(None, None, None, None, DEFAULT_TOKENS, spec, ())
    pace = choose_pace(workload, BPTT)
    workload = cap_loss(workload, pace.loss_steps)
    known = named or SCHEMES
    schemes, left_out = select_schemes([], workload.speed.model, known)
    plan = Plan(
        schemes=schemes, looks=(BLOCKS,), tokens=pace.steps, slices=pace.slices, float32_slices=pace.slices, bptt=BPTT
    )
    with progress("timing", BLOCKS) as advance:
        recording = measure(workload, plan, [Environment.here()], lambda _: {}, lambda where: advance(1, where))
    left_out |= recording.here.absent
    measured = tuple(scheme for scheme in schemes if scheme in recording.here.models)
    if not measured:
        reasons = "; ".join(f"{scheme}: {reason}" for scheme, reason in left_out.items())
        raise ValueError(f"expected a scheme that quantizes the model, found none: {reasons}")
    run = Run(
        recording=replace(recording, plan=replace(recording.plan, schemes=measured)),
        workload=describe_workload(workload),
        limits=limits or {},
        exempt=[],
        cases=measured,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if worst(judge_session(run)) is Outcome.INVALID:
        raise ValueError("the machine is too noisy to set limits: stop what else it does, and run this again")
    return run, left_out


def describe_limits(run: Run) -> Iterator[str]:
    """Yield what the gate will notice with new limits, and what it will not."""
    for scheme in run.recording.plan.schemes:
        figures = medians(run, scheme)
        speedup, limit = figures["speedup"], SPEEDUP * figures["speedup"]
        yield (
            f"{scheme}: {speedup:.2f} times as fast as float32, and {figures['size_ratio']:.2f} times smaller. "
            f"Fails below {limit:.2f} times as fast; and if it grows, predicts otherwise or quantizes less."
        )
        if limit <= 1:
            yield f"  The gate will not notice if {scheme} becomes as slow as float32: it is hardly faster here."
    isa = run.machine.isa
    yield (
        "The gate will not notice if a speedup falls by less than a third, because sessions of the same code differ. "
        "--gate-against finds 5 %."
    )
    yield f"The speedups are for processors with {isa}. On others, only size, loss and predictions are judged."


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
