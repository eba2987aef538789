"""What the cases share: the options, the workload, and the judgement against ``floors.toml``."""

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from lstmq import SCHEMES, ModelConfig, gate
from lstmq.comparison import Ratio, clock
from lstmq.machine import describe_machine
from lstmq.quantization import check_engine
from lstmq.workload import DEFAULT_TOKENS, Workload, load_workload

SLICE = 100  # tokens: long enough to time, short enough that both sides of a pair meet the same machine
LONG_SLICE = 300  # tokens: for what is of the loop, and not of what happens once before it
WARM_UP = 2  # pairs that do not count
CASES = [*SCHEMES, "float32", "evaluate", "train", "corpus"]
TUTORIALS = Path(__file__).with_name("floors.toml")  # limits of the tutorial's shape
FLOORS = pytest.StashKey[gate.Floors]()
WORKLOAD = pytest.StashKey[Workload]()
VERDICTS = pytest.StashKey[list[gate.Verdict]]()
Read = Callable[[Tensor], object]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lstmq")
    group.addoption(
        "--corpus", type=Path, help="folder of text, or wikitext-2 once fetched (default: the embedded sample)"
    )
    group.addoption("--checkpoint", type=Path, help="trained model, .pth or .safetensors (default: the sample's)")
    group.addoption("--vocabulary", type=Path, help="corpus folder of the checkpoint's words, if not --corpus")
    group.addoption("--tokens", type=int, help=f"length of the test text (default: {DEFAULT_TOKENS} at most)")
    group.addoption("--bptt", type=int, default=25, help="longest window, in tokens (default: %(default)s)")
    group.addoption("--threads", type=int, default=1, help="threads that torch computes on (default: %(default)s)")
    group.addoption("--engine", help="torch's int8 backend (default: torch's own)")
    group.addoption("--floors", type=Path, help="limits for a shape of your own (default: floors.toml, the tutorial's)")
    group.addoption("--pairs", type=int, default=40, help="slices timed on both sides (default: %(default)s)")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Load the workload before any case, so that a wrong option is one line and pytest's usage error."""
    config = session.config
    config.stash[VERDICTS] = []
    option = config.getoption
    for name in ("--threads", "--pairs", "--bptt"):
        if option(name) < 1:
            raise pytest.UsageError(f"{name} must be at least 1, found {option(name)}")
    torch.set_num_threads(option("--threads"))
    files = (option("--corpus"), option("--checkpoint"), option("--vocabulary"))
    try:
        check_engine(option("--engine"))
        config.stash[FLOORS] = gate.load_floors(option("--floors") or TUTORIALS)
        if unknown := config.stash[FLOORS].keys() - CASES:
            raise ValueError(f"{option('--floors')}: no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
        config.stash[WORKLOAD] = load_workload(*files, option("--tokens"), at_most=DEFAULT_TOKENS)
        if (tokens := len(config.stash[WORKLOAD].speed.source)) <= LONG_SLICE:
            raise ValueError(f"expected more than {LONG_SLICE} tokens of test text to time slices of, found {tokens}")
    except (ValueError, OSError) as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def workload(pytestconfig: pytest.Config) -> Workload:
    return pytestconfig.stash[WORKLOAD]


@pytest.fixture(scope="session")
def facts(pytestconfig: pytest.Config) -> dict[str, object]:
    """What every case notes in its ``extra_info``: the machine, torch, the engine, the threads, the window."""
    return describe_machine(pytestconfig.getoption("--engine")) | {"bptt": pytestconfig.getoption("--bptt")}


@pytest.fixture
def measure_speedup(benchmark: BenchmarkFixture, pytestconfig: pytest.Config, workload: Workload):
    """Give ``measure_speedup(reference, target)``: the reference's seconds over the target's, slice by slice.

    pytest-benchmark times the target; the reference reads the same slice just before, in the round's untimed set-up.
    A slice has ``tokens``; there are ``times`` as many pairs as ``--pairs`` says.
    """

    def measure_speedup(reference: Read, target: Read, tokens: int = SLICE, times: int = 1) -> Ratio:
        now, pairs, seconds = clock(), times * pytestconfig.getoption("--pairs"), []
        source = workload.speed.source
        starts = cycle(range(0, len(source) - tokens, tokens))  # consecutive, and again from the first

        def read_reference() -> tuple[tuple[Tensor], dict[str, object]]:
            first = next(starts)
            window = source[first : first + tokens + 1]
            start = now()
            reference(window)
            seconds.append(now() - start)
            return (window,), {}

        benchmark.pedantic(target, setup=read_reference, rounds=pairs, warmup_rounds=WARM_UP)
        if benchmark.disabled:
            pytest.fail("not measured: benchmarks are disabled", pytrace=False)
        benchmark.extra_info["tokens"] = tokens
        return Ratio.of_pairs(seconds[WARM_UP:], benchmark.stats.stats.data)

    return measure_speedup


@pytest.fixture(scope="session")
def judge(pytestconfig: pytest.Config, workload: Workload) -> Callable[..., None]:
    """Give ``judge("int8", speedup=2.1, ...)``: it fails a case with every figure past its row of the floors.

    Unless the floors are one's own, they are the tutorial's shape's and the sample's, and judge nothing else.
    """
    own = pytestconfig.getoption("--floors") is not None
    another_shape = replace(workload.speed.model.config, dropout=0) != replace(ModelConfig(), dropout=0)
    another_text = pytestconfig.getoption("--corpus") is not None

    def judge(case: str, **figures: float) -> None:
        exempt = {"bytes_per_token"} if another_text and not own else set()
        if another_shape and not own and case != "train":  # which trains the sample's small model, always
            exempt |= {"speedup", "size_ratio", "overhead"}
        verdicts = gate.judge(case, figures, pytestconfig.stash[FLOORS], exempt)
        pytestconfig.stash[VERDICTS].extend(verdicts)
        if regressions := [str(verdict) for verdict in verdicts if verdict.passed is False]:
            pytest.fail("regression: " + "; ".join(regressions), pytrace=False)

    return judge


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if verdicts := config.stash[VERDICTS]:
        terminalreporter.section(f"against {config.getoption('--floors') or 'benchmarks/floors.toml'}")
        workload = config.stash[WORKLOAD]
        terminalreporter.line(f"speed and size: {workload.speed.origin}")
        terminalreporter.line(f"loss: {workload.loss.origin}")
        for verdict in verdicts:
            terminalreporter.line(str(verdict))
