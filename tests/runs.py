"""Runs of the gate whose figures are made up."""

from dataclasses import asdict
from random import Random

from hypothesis import strategies as st

from lstmq.gate.processes import HERE, THERE
from lstmq.gate.runs import Run
from lstmq.gate.session import Plan, Recording
from lstmq.gate.worker import FLOAT32_COPY, PROTOCOL
from lstmq.quantization.schemes import FLOAT32
from strategies import seeds

MACHINE = {"cpu": "a processor", "isa": "avx2", "torch": "2.13.0", "engine": "x86", "threads": 1, "python": "3.12.1"}
SECONDS = {FLOAT32: 3e-2, FLOAT32_COPY: 3e-2, "int8": 1e-2}  # of a slice
SIZES = {FLOAT32: 4_000, "int8": 2_000}  # bytes
FAR = {FLOAT32: (3.0, 0.0, 1.0), "int8": (3.0002, 0.001, 0.9)}  # nats per token, nats, a share
FLOORS = {"int8": {"speedup": {"at_least": 2.0, "measured": 3.0}, "kl": {"at_most": 0.003, "measured": 0.001}}}


def slices(seconds, workers=12, each=4, noise=0.001, seed=0):
    """Return seconds by worker and slice, each off by up to ``noise`` of them."""
    random = Random(seed)
    return [[seconds * (1 + noise * random.uniform(-1, 1)) for _ in range(each)] for _ in range(workers)]


def fidelity(loss, kl, agreement, windows=10):
    """Return what a recording holds of a model: windows of 25 tokens whose losses have this mean."""
    losses = [loss + 0.01 * (place - (windows - 1) / 2) for place in range(windows)]
    return {"losses": losses, "tokens": [25] * windows, "kl": kl, "agreement": agreement}


def environment(name, models, machine=None, sizes=None, far=None, absent=None):
    """Return what a worker tells of its environment; what is not given is as above."""
    return {
        "protocol": PROTOCOL,
        "lstmq": "0.1.0",
        "torch": "2.13.0",
        "place": f"/{name}/lstmq",
        "pinned": True,
        "machine": MACHINE | (machine or {}),
        "models": list(models),
        "absent": absent or {},
        "sizes": {
            name: {"total": total, "parts": {"rnn": total // 4, "decoder": total - total // 4}}
            for name, total in (SIZES | (sizes or {})).items()
            if name in models
        },
        "fidelity": {name: fidelity(*(FAR | (far or {}))[name]) for name in models if name != FLOAT32_COPY},
    }


def a_run(here=None, there=None, *, told=None, told_there=None, schemes=("int8",), tokens=100, **of):
    """Return a run whose seconds are made up.

    Args:
        here: by model, seconds by worker and slice, or seconds of any slice; what is not given is as above.
        there: likewise, of another environment, if there is one.
        told: what :func:`environment` takes; ``told_there``, of the other one.
        schemes: of the plan.
        tokens: of a slice.
        of: fields of the run: workload, floors, exempt, cases, failures, date, outcome.
    """
    arms = {HERE: SECONDS | (here or {})}
    if there is not None:
        arms[THERE] = SECONDS | there
    seconds, seed = {}, 0
    for name, models in arms.items():
        seconds[name] = {}
        for model, times in models.items():
            seed += 1
            seconds[name][model] = times if isinstance(times, list) else slices(times, seed=seed)
    shape = seconds[HERE][FLOAT32]
    pairs = sum(time is not None for time in shape[0])
    plan = Plan(schemes=tuple(schemes), workers=len(shape), pairs=pairs, more=len(shape[0]) - pairs, tokens=tokens)
    recording = Recording(
        plan=asdict(plan) | {"clock": plan.clock},
        environments={
            name: environment(name, seconds[name], **(facts or {}))
            for name, facts in ((HERE, told), (THERE, told_there))
            if name in seconds
        },
        slices=[[tokens * place for place in range(len(worker))] for worker in shape],
        seconds=seconds,
        wall=seconds,
    )
    as_it_is = {
        "workload": {"speed": "a model", "loss": "a model", "fingerprint": "0123456789abcdef"},
        "floors": FLOORS,
        "exempt": [],
        "cases": [scheme for scheme in schemes if scheme in seconds[HERE]],
        "date": "2026-11-24T12:00:00+00:00",
        "outcome": "PASS",
    }
    return Run(recording=recording, **(as_it_is | of))


@st.composite
def times(draw, seconds, workers, each):
    """Seconds by worker and slice, about as long as ``seconds`` and with any noise."""
    noise, random = draw(st.sampled_from([0.0, 0.001, 0.05, 0.5])), Random(draw(seeds))
    shifts = [random.lognormvariate(0, noise) for _ in range(workers)]
    return [[seconds * shift * random.lognormvariate(0, noise) for _ in range(each)] for shift in shifts]


@st.composite
def noisy_runs(draw, there=None, calm=False):
    """Runs of a few workers, in which int8 is faster or slower than float32, and than int8 there.

    With another environment if ``there``, and some if it is not said. In a ``calm`` one, float32 and its copy are
    equally fast, and there is enough of it for intervals.
    """
    enough = st.tuples(st.integers(8, 12), st.integers(1, 6)) | st.tuples(st.integers(1, 12), st.integers(8, 10))
    workers, each = draw(enough if calm else st.tuples(st.integers(1, 12), st.integers(1, 10)))
    arms = {name: draw(times(seconds, workers, each)) for name, seconds in SECONDS.items()}
    arms["int8"] = draw(times(draw(st.floats(0.005, 0.05)), workers, each))
    arms[FLOAT32_COPY] = arms[FLOAT32] if calm else arms[FLOAT32_COPY]
    other = {name: draw(times(seconds, workers, each)) for name, seconds in SECONDS.items()}
    other[FLOAT32_COPY] = other[FLOAT32] if calm else other[FLOAT32_COPY]
    with_other = draw(st.booleans()) if there is None else there
    return a_run(arms, other if with_other else None)
