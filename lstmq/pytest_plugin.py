"""The pytest plugin of the gate: its options and its fixtures.

Every pytest in an environment with lstmq loads this module, so it imports nothing but pytest. The rest, in
``lstmq/gating/``, is imported when a collected test uses a fixture that starts with ``gate_``.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from lstmq.gating.options import add_options, check_compare

if TYPE_CHECKING:
    from lstmq.gate import Run, Verdict
    from lstmq.workload import Workload

FIXTURES = {"gate_judge", "gate_judge_case", "gate_judge_ratio", "gate_facts", "gate_workload", "gate_scheme"}
USED = pytest.StashKey[bool]()
XDIST_KEY = "lstmq_gate"  # what a worker of pytest-xdist tells the process that concludes


@pytest.fixture
def gate_judge(benchmark: Any, request: pytest.FixtureRequest) -> Callable[[str], "Run"]:
    """A function from a model to the run. It fails the test unless the model passes.

    The model is ``"float32"`` or a scheme such as ``"int8"``. Float32 passes if the machine is calm enough.
    """
    from lstmq.gating import hooks, timing

    return lambda model: timing.judge_model(request, benchmark, request.config.stash[hooks.GATE], model)


@pytest.fixture
def gate_judge_ratio(benchmark: Any, pytestconfig: pytest.Config) -> Callable[..., None]:
    """A function that times two functions in turn, and judges the seconds of the first over those of the second.

    As in ``gate_judge_ratio("train", "overhead", target, reference, clock=clock(), pairs=4)``. The arguments are those
    of :func:`lstmq.gate.time_in_turn`. The seconds of the first function become those of the benchmark.
    """
    from lstmq.gating import hooks, timing

    gate = pytestconfig.stash[hooks.GATE]
    return lambda *arguments, **options: timing.judge_ratio(benchmark, gate, *arguments, **options)


@pytest.fixture
def gate_judge_case(pytestconfig: pytest.Config) -> Callable[..., "list[Verdict]"]:
    """A function from a case and its figures to the verdicts, as in ``gate_judge_case("corpus", size=exact(9))``."""
    from lstmq.gating import hooks, timing

    return lambda case, **figures: timing.judge_case(pytestconfig.stash[hooks.GATE], case, figures)


@pytest.fixture(scope="session")
def gate_facts(pytestconfig: pytest.Config) -> dict[str, object]:
    """What every benchmark notes in its ``extra_info``: the machine, torch, the engine, the threads, the window."""
    from lstmq.gating import hooks, timing

    return timing.gate_facts(pytestconfig.stash[hooks.GATE])


@pytest.fixture(scope="session")
def gate_workload(pytestconfig: pytest.Config) -> "Workload":
    """The workload of the session."""
    from lstmq.gating import hooks

    return pytestconfig.stash[hooks.GATE].workload


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    add_options(parser.getgroup("lstmq"))


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads the saved run
def pytest_configure(config: pytest.Config) -> None:
    """Refuse ``--benchmark-compare benchmarks``, which would run other tests than those in the folder."""
    if isinstance(compare := config.getoption("benchmark_compare", None), str):
        try:
            check_compare(compare)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create one case for each gated scheme."""
    if "gate_scheme" in metafunc.fixturenames:
        from lstmq.gating import hooks

        metafunc.parametrize("gate_scheme", hooks.schemes(metafunc.config, metafunc.definition.path.parent))


@pytest.hookimpl(tryfirst=True)  # before other plugins deselect tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Load what the options name, if a test uses the gate. A wrong option is a usage error."""
    gated = [item for item in items if _uses_gate(item)]
    if gated:
        from lstmq.gating import hooks

        config.stash[USED] = True
        hooks.prepare_items(config, gated)  # type: ignore[arg-type] # items with fixtures are functions
        if hasattr(config, "workeroutput"):
            config.workeroutput[XDIST_KEY] = str(gated[0].path.parent)


def _uses_gate(item: pytest.Item) -> bool:
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Conclude for the workers of pytest-xdist, which measure nothing."""
    if folder := getattr(node, "workeroutput", {}).get(XDIST_KEY):
        from pathlib import Path

        from lstmq.gating import hooks

        node.config.stash[USED] = hooks.load_gate(node.config, Path(folder)) is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note a failure that is not a verdict."""
    if _uses_gate(item):
        from lstmq.gating import hooks

        hooks.note_failure(item, call)  # type: ignore[arg-type] # as above
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Set the exit code."""
    if session.config.stash.get(USED, False):
        from lstmq.gating import hooks

        return (yield from hooks.conclude(session, exitstatus))
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, object]) -> None:
    """Add the session to what pytest-benchmark saves."""
    if config.stash.get(USED, False):
        from lstmq.gating import hooks

        hooks.add_to_saved_run(config.stash[hooks.GATE], output_json)


@pytest.hookimpl(trylast=True)  # after the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the verdicts."""
    if config.stash.get(USED, False):
        from lstmq.gating import hooks

        if gate := hooks.concluding_gate(config):
            hooks.show_verdicts(terminalreporter, config, gate)
