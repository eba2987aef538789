"""Runs of the gate with made-up figures: :func:`make_run` and :func:`noisy_runs`; and small subjects for real ones."""

import copy
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig, batchify, next_words
from lstmq.comparison.fidelity import Fidelity
from lstmq.comparison.machine import Machine
from lstmq.comparison.peak import Peak, Reading
from lstmq.gate.judge import judge_run
from lstmq.gate.limits import CaseLimits, Limit
from lstmq.gate.protocol import PROTOCOL
from lstmq.gate.recording import FLOAT32_COPY, EnvironmentRecording, Plan, Recording, Seconds
from lstmq.gate.run_file import KEY, run_document
from lstmq.gate.runs import Run, WorkloadDescription
from lstmq.gate.statistics import ConfidenceInterval
from lstmq.gate.verdicts import Verdict
from lstmq.model.size import ModelSize
from lstmq.quantization.schemes import FLOAT32
from lstmq.workload.subject import Subject
from strategies import random_ids, seeds

MACHINE = Machine(
    cpu="a processor",
    isa="avx2",
    torch="2.13.0",
    engine="x86",
    kernels="avx2",
    threads=1,
    python="3.12.1",
    system="Linux x86_64",
)
PEAK = Peak(
    isa="avx2",
    products_per_second=9.1e10,
    reading=(
        Reading(where="L2", size=2**19, bytes_per_second=9e10),
        Reading(where="memory", size=2**26, bytes_per_second=2.5e10),
    ),
)
WORKLOAD = WorkloadDescription(speed="a model", loss="a model", fingerprint="0123456789abcdef")
SECONDS = {FLOAT32: 3e-2, FLOAT32_COPY: 3e-2, "int8": 1e-2}  # per slice
SIZES = {FLOAT32: 4_000, "int8": 2_000}  # bytes
LIMITS = {
    "int8": CaseLimits(
        default={"speedup": Limit(at_least=2.0, measured=3.0), "kl": Limit(at_most=0.003, measured=0.001)}
    )
}
intervals = st.lists(st.floats(-10, 10), min_size=3, max_size=3).map(
    lambda numbers: ConfidenceInterval(lower=min(numbers), median=statistics.median(numbers), upper=max(numbers))
)


def make_fidelity(loss: float, kl: float | None = None, agreement: float | None = None, windows: int = 10) -> Fidelity:
    """Return the fidelity of a model. The windows have 25 tokens each, and the mean of their losses is ``loss``."""
    losses = [loss + 0.01 * (place - (windows - 1) / 2) for place in range(windows)]
    return Fidelity(losses=losses, tokens=[25] * windows, kl=kl, agreement=agreement)


FIDELITY = {FLOAT32: make_fidelity(3.0, 0.0, 1.0), "int8": make_fidelity(3.0002, 0.001, 0.9)}


def make_size(total: int) -> ModelSize:
    """Return the size of a model of two parts."""
    return ModelSize(total=total, parts={"rnn": total // 4, "decoder": total - total // 4})


def make_slices(
    seconds: float, workers: int = 12, slices: int = 4, noise: float = 0.001, seed: str | int = 0
) -> Seconds:
    """Return seconds by worker and slice. Each differs from ``seconds`` by up to the share ``noise``."""
    random = Random(seed)
    return [[seconds * (1 + noise * random.uniform(-1, 1)) for _ in range(slices)] for _ in range(workers)]


def make_environment(
    name: str = "here",
    seconds: Mapping[str, float | Seconds] | None = None,
    *,
    machine: Machine = MACHINE,
    sizes: Mapping[str, int] | None = None,
    fidelity: Mapping[str, Fidelity] | None = None,
    absent: Mapping[str, str] | None = None,
    words: Mapping[str, Seconds] | None = None,
    peak: Peak | None = None,
) -> EnvironmentRecording:
    """Return what an environment recorded.

    Args:
        name: ``here`` or ``there``.
        seconds: by model, seconds by worker and slice, or seconds per slice. The default is :data:`SECONDS`.
        machine: the machine.
        sizes: bytes by model. The default is :data:`SIZES`.
        fidelity: by model. The default is :data:`FIDELITY`.
        absent: why a scheme was not measured. It has no seconds, size and fidelity.
        words: by model, seconds by worker and block for reading words one by one. There are none by default.
        peak: of the processor. It is unknown by default.
    """
    by_model = {
        model: times if isinstance(times, list) else make_slices(times, seed=f"{model} {name}")
        for model, times in {**SECONDS, **(seconds or {})}.items()
        if model not in (absent or {})
    }
    quantized = by_model.keys() - {FLOAT32_COPY}
    return EnvironmentRecording(
        protocol=PROTOCOL,
        lstmq="0.2.0",
        location=f"/{name}/lstmq",
        pinned=True,
        machine=machine,
        models=list(by_model),
        absent=dict(absent or {}),
        sizes={model: make_size(total) for model, total in {**SIZES, **(sizes or {})}.items() if model in quantized},
        fidelity={model: result for model, result in {**FIDELITY, **(fidelity or {})}.items() if model in quantized},
        quantized_share=dict.fromkeys(quantized - {FLOAT32}, 1.0),
        seconds=by_model,
        wall=by_model,
        words=dict(words or {}),
        peak=peak,
    )


def make_run(
    here: EnvironmentRecording | Mapping[str, float | Seconds] | None = None,
    there: EnvironmentRecording | Mapping[str, float | Seconds] | None = None,
    *,
    schemes: Sequence[str] = ("int8",),
    tokens: int = 100,
    looks: tuple[int, ...] = (),
    **fields: Any,
) -> Run:
    """Return a run that passes every limit, unless the arguments say otherwise.

    Args:
        here: what this environment recorded, or only the ``seconds`` of :func:`make_environment`.
        there: the same for the other environment. There is none by default; ``{}`` makes one up.
        schemes: of the plan.
        tokens: length of a slice.
        looks: numbers of blocks at the looks. Each process reads one block. The default is one look at the end.
        fields: fields of the run, such as ``limits`` or ``outcome``.
    """
    if not isinstance(here, EnvironmentRecording):
        here = make_environment("here", here)
    if there is not None and not isinstance(there, EnvironmentRecording):
        there = make_environment("there", there)
    float32 = here.seconds[FLOAT32]
    slices = sum(time is not None for time in float32[0])
    plan = Plan(
        schemes=tuple(schemes),
        looks=looks or (len(float32),),
        blocks=1,
        slices=len(float32[0]),
        float32_slices=slices,
        tokens=tokens,
    )
    starts = [[tokens * place for place in range(len(process))] for process in float32]
    defaults: dict[str, Any] = {
        "workload": WORKLOAD,
        "limits": LIMITS,
        "exempt": [],
        "cases": [scheme for scheme in schemes if scheme in here.seconds],
        "failures": [],
        "date": "2026-11-24T12:00:00+00:00",
        "outcome": "PASS",
    }
    return Run(recording=Recording(plan=plan, slices=starts, here=here, there=there), **(defaults | fields))


def save_run(path: Path, run: Run, verdicts: Sequence[Verdict] = ()) -> Path:
    """Write a run as the benchmarks do, and return the path."""
    path.write_text(json.dumps({"benchmarks": [], KEY: run_document(run, verdicts)}), encoding="utf-8")
    return path


@st.composite
def seconds_by_worker(draw: st.DrawFn, seconds: float, workers: int, slices: int) -> Seconds:
    """Draw seconds by worker and slice, about as long as ``seconds``, with little or much noise."""
    noise, random = draw(st.sampled_from([0.0, 0.001, 0.05, 0.5])), Random(draw(seeds))
    shifts = [random.lognormvariate(0, noise) for _ in range(workers)]
    return [[seconds * shift * random.lognormvariate(0, noise) for _ in range(slices)] for shift in shifts]


@st.composite
def noisy_runs(draw: st.DrawFn, with_there: bool | None = None, calm: bool = False) -> Run:
    """Draw a run in which int8 is faster or slower than float32, and than int8 in the other environment.

    Args:
        draw: passed by Hypothesis.
        with_there: whether there is another environment; either by default.
        calm: whether float32 and its copy are equally fast, and there are enough workers for an interval.
    """
    shape = draw(st.tuples(st.integers(9 if calm else 1, 12), st.integers(1, 10)))
    here = {model: draw(seconds_by_worker(seconds, *shape)) for model, seconds in SECONDS.items()}
    here["int8"] = draw(seconds_by_worker(draw(st.floats(0.005, 0.05)), *shape))
    there = {model: draw(seconds_by_worker(seconds, *shape)) for model, seconds in SECONDS.items()}
    if calm:
        here[FLOAT32_COPY], there[FLOAT32_COPY] = here[FLOAT32], there[FLOAT32]
    return make_run(here, there if (draw(st.booleans()) if with_there is None else with_there) else None)


def judged(run: Run, baseline: Run | None = None) -> dict[tuple[str, str, str], Verdict]:
    """Judge a run. Return the verdicts by question, case and metric."""
    return {(verdict.question, verdict.case, verdict.metric): verdict for verdict in judge_run(run, baseline)}


def change_seconds(
    run: Run, change: Callable[[int, int, float], float], environment: str = "here", model: str = "int8"
) -> Run:
    """Return a copy of the run in which ``change(worker, slice, seconds)`` replaces the seconds of a model."""
    run = copy.deepcopy(run)
    seconds = run.recording.environments[environment].seconds
    seconds[model] = [
        [time and change(worker, place, time) for place, time in enumerate(process)]
        for worker, process in enumerate(seconds[model])
    ]
    return run


def make_subject(ntoken: int = 30, tokens: int = 101, seed: int = 0, bsz: int = 1) -> Subject[LSTMModel]:
    """Return a small float32 model in evaluation mode, and a stream of random ids."""
    model = LSTMModel(ModelConfig(ntoken=ntoken, ninp=16, nhid=8, nlayers=2), torch.Generator().manual_seed(seed))
    source = batchify(random_ids(ntoken, tokens, seed), bsz)
    return Subject(model=model.eval(), stream=next_words(source), origin="a test")
