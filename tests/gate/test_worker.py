"""Laws of a worker: it answers each request once, times exactly the slice it was given, and refuses in one line.

The workers of these tests run in this process.
"""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

import lstmq
from lstmq import evaluate
from lstmq.comparison.machine import describe_machine
from lstmq.gate.protocol import PROTOCOL, Described, Hello, Loaded, Timed
from lstmq.gate.recording import FLOAT32_COPY, Plan
from lstmq.gate.transfer import dump_subjects
from lstmq.gate.worker import Worker, serve
from lstmq.quantization.native.model import NativeModel
from lstmq.quantization.schemes import FLOAT32, quantize
from lstmq.workload.subject import Workload
from runs import PEAK, make_subject

PLAN = Plan(schemes=("int8",), bptt=7)
STREAM = make_subject().stream


@pytest.fixture(scope="module")
def files():
    """The files of a workload."""
    with dump_subjects(Workload(speed=make_subject(), loss=make_subject(12, 50, 1))) as files:
        yield files


@pytest.fixture
def load(files):
    """Return a function that lets a worker load the models, with these arguments changed."""

    def load(worker, **changes):
        processor = changes.pop("processor", -1)
        return worker.load(files.speed, replace(PLAN, **changes), processor)

    return load


def request(do, **arguments):
    return {"do": do, **arguments}


@pytest.fixture
def load_request(files):
    subject = msgspec.to_builtins(files.speed)
    plan = msgspec.to_builtins(replace(PLAN, schemes=("int8", "int3")))
    return request("load", subject=subject, plan=plan, processor=-1)


def ask(*requests, worker=None):
    """Return the answers of a worker, as JSON that was read."""
    answers = io.StringIO()
    serve(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), answers, worker)
    assert answers.getvalue().endswith("\n")
    return [json.loads(line) for line in answers.getvalue().splitlines()]


# Requests and answers.


def test_worker_describes_the_peak_of_the_processor(load, files):
    worker = Worker(probe=lambda: PEAK)
    load(worker)
    assert worker.describe(files.loss).peak == PEAK


def test_worker_says_hello_and_answers_each_request_with_its_type(load_request, files):
    time = request("time", model="int8", first=20, tokens=10)
    requests = [
        load_request,
        request("describe", subject=msgspec.to_builtins(files.loss)),
        time,
        request("move", model="int8"),
        time | {"model": FLOAT32_COPY},
    ]
    answers = ask(*requests)
    kinds = (Hello, Loaded, Described, Timed, dict, Timed)
    hello, loaded, described, *_ = (msgspec.convert(answer, kind) for answer, kind in zip(answers, kinds, strict=True))
    assert hello == Hello(protocol=PROTOCOL, lstmq=lstmq.__version__, location=str(Path(lstmq.__file__).parent))
    assert loaded.machine == describe_machine()
    assert loaded.models == [FLOAT32, FLOAT32_COPY, "int8"]
    assert loaded.absent.keys() == {"int3"}
    assert "no such scheme: 'int3'" in loaded.absent["int3"]
    assert described.sizes.keys() == described.fidelity.keys() == {FLOAT32, "int8"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"plan": {"schemes": ["int8"], "engine": "abacus"}}, "no engine 'abacus'"),
        ({"plan": {"schemes": ["int8"], "threads": 0}}, "threads must be at least 1, found 0"),
        ({"subject": {"which": "speed", "made_by": "", "folder": "nowhere"}}, "nowhere"),
        ({"do": "dance"}, "dance"),
    ],
)
def test_worker_that_cannot_answer_says_why_in_one_line_and_ends(load_request, changes, reason):
    hello, refusal = ask(load_request | changes, request("time", model="int8", first=0, tokens=5))
    assert hello.keys() == {"protocol", "lstmq", "location"}
    assert refusal.keys() == {"error"}
    assert reason in refusal["error"]
    assert "\n" not in refusal["error"]


def test_scheme_is_absent_if_only_the_model_for_the_loss_cannot_be_quantized(load_request, files):
    calls = []

    def quantize_once(model, scheme, engine, keep):
        calls.append(scheme)
        if len(calls) > 1:
            raise ValueError("too small")
        return quantize(model, scheme, engine, keep)

    describe = request("describe", subject=msgspec.to_builtins(files.loss))
    load = load_request | {"plan": msgspec.to_builtins(PLAN)}
    _, loaded, described = ask(load, describe, worker=Worker(quantize=quantize_once))
    assert loaded["absent"] == {}
    assert described["absent"] == {"int8": "the model for the loss cannot be quantized: too small"}
    assert described["models"] == [FLOAT32, FLOAT32_COPY]
    assert described["fidelity"].keys() == described["sizes"].keys() == {FLOAT32}


# Models.


def test_scheme_whose_model_cannot_read_is_absent_and_the_others_are_not(load):
    """A forward of the user may use what quantized modules lack."""

    def break_int8(model, scheme, engine, keep):
        return torch.nn.Linear(1, 1) if scheme == "int8" else quantize(model, scheme, engine, keep)

    loaded = load(Worker(quantize=break_int8), schemes=["int8", "bf16"])
    assert loaded.absent.keys() == {"int8"}
    assert loaded.models == [FLOAT32, FLOAT32_COPY, "bf16"]


def test_modules_to_keep_reach_the_worker_and_the_share_that_is_quantized_comes_back():
    subject = replace(make_subject(), keep=("decoder",))
    with dump_subjects(Workload(speed=subject, loss=subject)) as files:
        worker = Worker()
        worker.load(files.speed, PLAN, -1)
        described = worker.describe(files.loss)
    assert type(worker.models["int8"].decoder) is torch.nn.Linear
    weights = {name: weight.numel() for name, weight in subject.model.named_parameters()}
    in_int8 = sum(count for name, count in weights.items() if name.startswith("rnn"))
    assert described.quantized_share == {"int8": pytest.approx(in_int8 / sum(weights.values()))}


def test_float32_and_its_copy_are_equal_models_in_different_memory(load):
    worker = Worker()
    load(worker)
    float32, copy = (worker.models[name].state_dict() for name in (FLOAT32, FLOAT32_COPY))
    assert all(torch.equal(weight, copy[name]) for name, weight in float32.items())
    assert all(weight.data_ptr() != copy[name].data_ptr() for name, weight in float32.items())


@pytest.mark.parametrize("engine", [name for name in torch.backends.quantized.supported_engines if name != "none"])
def test_model_that_was_moved_computes_the_same_on_the_engine_it_was_made_for(load, engine):
    """torch packs the weights of a copy again, for the engine that is set at that time."""
    worker = Worker()
    load(worker, engine=engine)
    models = dict(worker.models)
    before = {name: evaluate(model, STREAM, 7) for name, model in models.items()}
    for name, model in models.items():
        assert worker.move(name) == {}
        assert worker.models[name] is not model
    assert {name: evaluate(model, STREAM, 7) for name, model in worker.models.items()} == before


def test_engine_that_was_moved_reads_a_window_before_it_is_timed(load):
    """An engine may pack, compile or create a session when it first reads."""
    read = []
    worker = Worker(evaluate=lambda model, stream, bptt: read.append((type(model), len(stream), bptt)))
    load(worker, schemes=["int8", "int8-native"], bptt=25)
    read.clear()
    native = worker.models["int8-native"]
    for name in ("int8", "int8-native"):
        worker.move(name)
    assert read == [(NativeModel, 25, 25)]
    assert worker.models["int8-native"] is not native


# Timing.


def test_worker_times_the_slice_and_the_target_of_its_last_word(load):
    read = []
    worker = Worker(evaluate=lambda *arguments: read.append(arguments))
    load(worker)
    worker.time(FLOAT32, first=20, tokens=10)
    [(model, stream, bptt)] = read
    assert (model, bptt) == (worker.models[FLOAT32], 7)
    assert torch.equal(stream.inputs, STREAM.inputs[20:30])
    assert torch.equal(stream.targets, STREAM.targets[20:30])


def test_worker_reports_the_cpu_time_between_start_and_end(load):
    worker = Worker(cpu_time=iter([1.0, 3.5]).__next__)
    load(worker)
    timed = worker.time("int8", first=0, tokens=5)
    assert timed.cpu == 2.5
    assert 0 < timed.wall < 2.5


def test_worker_times_words_after_a_few_that_warm_up_and_goes_on_from_there(load):
    worker = Worker(cpu_time=iter([1.0, 3.5, 4.0, 4.25]).__next__)
    load(worker)
    read = []
    for model in (FLOAT32, "int8"):
        worker.models[model].register_forward_pre_hook(lambda _, inputs, model=model: read.append((model, inputs[0])))
    assert worker.read_words(FLOAT32, count=5).cpu == 2.5
    assert [(model, int(word)) for model, word in read] == [(FLOAT32, int(word)) for word in STREAM.inputs[:7]]
    assert worker.read_words(FLOAT32, count=2).cpu == 0.25
    assert [int(word) for _, word in read[7:]] == [int(word) for word in STREAM.inputs[7:11]]


def test_model_that_was_moved_reads_words_with_its_copy(load):
    worker = Worker()
    load(worker)
    worker.read_words("int8", count=1)
    worker.move("int8")
    calls = []
    worker.models["int8"].register_forward_pre_hook(lambda *_: calls.append(1))
    worker.read_words("int8", count=1)
    assert len(calls) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process on a processor")
def test_worker_stays_on_its_processor_where_the_system_allows_it(load, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, processors: calls.append((pid, processors)))
    assert load(Worker(), processor=0).pinned
    assert calls == [(0, {0})]
    assert not load(Worker(), processor=-1).pinned

    def forbid(pid, processors):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    assert not load(Worker(), processor=0).pinned
