"""Laws of a session: all arms read all slices in turn, each as often first; a worker that fails is one line.

Most sessions here are of made-up workers, since a real one imports torch first.
"""

import copy
import io
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lstmq
from lstmq import LSTMModel, ModelConfig, batchify, evaluate, next_words
from lstmq.comparison.fidelity import compare_predictions
from lstmq.comparison.machine import describe_machine
from lstmq.gate import processes, session, worker
from lstmq.gate.processes import HERE, THERE, Environment, SessionError
from lstmq.gate.session import Plan, measure
from lstmq.gate.transfer import dump_subjects
from lstmq.gate.worker import FLOAT32_COPY, PROTOCOL
from lstmq.model.size import model_size
from lstmq.quantization.native.model import NativeModel
from lstmq.quantization.schemes import FLOAT32, quantize
from lstmq.workload.subject import Subject, Workload
from strategies import stream

HELLO = {"protocol": PROTOCOL, "lstmq": lstmq.__version__, "torch": torch.__version__}


def subject(ntoken, tokens, seed):
    model = LSTMModel(ModelConfig(ntoken=ntoken, ninp=16, nhid=8, nlayers=2), torch.Generator().manual_seed(seed))
    source = batchify(stream(ntoken, tokens, seed), 1)
    return Subject(model=model.eval(), stream=next_words(source), origin="a test")


SPEED = subject(30, 101, 0)
WORKLOAD = Workload(speed=SPEED, loss=subject(12, 50, 1))
BOTH = [Environment(name=name, command=("nothing",), variables={}) for name in (HERE, THERE)]


class Workers:
    """Stands in for the processes: every reading takes a millisecond more than the last, and is noted."""

    def __init__(self):
        self.read = []  # (worker of its environment, environment, arm, first token, seconds)
        self.moved = []  # how much was read by then, and what was moved
        self.outstanding = []
        self.started = Counter()
        self.alive = set()

    def __call__(self, environment):
        return Stub(self, environment.name)


class Stub:
    def __init__(self, workers, name):
        self.workers, self.name, self.hello = workers, name, HELLO

    def __enter__(self):
        self.number = self.workers.started[self.name]
        self.workers.started[self.name] += 1
        self.workers.alive.add((self.name, self.number))
        return self

    def __exit__(self, *_):
        self.workers.alive.remove((self.name, self.number))

    def send(self, **request):
        assert self not in self.workers.outstanding
        assert request["do"] not in ("time", "move") or not self.workers.outstanding
        self.workers.outstanding.append(self)
        self.request = request

    def answer(self, patience=None):
        self.workers.outstanding.remove(self)
        return getattr(self, self.request["do"])(**{key: self.request[key] for key in self.request if key != "do"})

    def ask(self, **request):
        self.send(**request)
        return self.answer()

    def load(self, *, schemes, **_):
        self.models = [FLOAT32, FLOAT32_COPY, *schemes]
        return {"machine": {"cpu": "none"}, "models": self.models, "absent": {}, "pinned": True}

    def describe(self, **_):
        return {"sizes": {}, "fidelity": {}}

    def move(self, *, model):
        assert model in self.models
        self.workers.moved.append((len(self.workers.read), self.number, self.name, model))
        return {}

    def time(self, *, arm, first, tokens):
        assert arm in self.models
        seconds = (len(self.workers.read) + 1) / 1_000
        self.workers.read.append((self.number, self.name, arm, first, seconds))
        return {"cpu": seconds, "wall": 2 * seconds}


def every_time(times):
    return [t for arms in times.values() for workers in arms.values() for w in workers for t in w if t is not None]


def made_up(plan, environments=BOTH, on_slice=None):
    """Return the recording of a session of made-up workers, and what each read that counts."""
    workers = Workers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "Asked", workers)
        recording = measure(WORKLOAD, plan, processes, on_slice)
    assert not workers.alive
    assert not workers.outstanding
    counted = {*every_time(recording.wall)}
    # The first reading of a model in its place, in a process or where it was moved to, fills caches, and is none.
    seen = {}
    moves = iter([*workers.moved, (math.inf,)])
    move = next(moves)
    for place, (*which, _, seconds) in enumerate(workers.read):
        while move[0] <= place:
            seen[move[1:]] = False
            move = next(moves)
        assert (2 * seconds in counted) == seen.get(tuple(which), False)
        seen[tuple(which)] = True
    read = [each for each in workers.read if 2 * each[-1] in counted]
    return recording, [[each[1:4] for each in read if each[0] == number] for number in range(plan.workers)]


plans = st.builds(
    Plan,
    schemes=st.sampled_from([("int8",), ("int8", "bf16")]),
    workers=st.integers(1, 4),
    pairs=st.integers(1, 5),
    more=st.integers(0, 20),
    tokens=st.sampled_from([5, 30, 100]),
    seed=st.integers(0, 5),
)


def rounds(plan, processes, slices, read):
    """Cut what a worker read into what was read of each slice, by environment and model."""
    reading = iter(read)
    for place, first in enumerate(slices):
        arms = [*plan.schemes] if place >= plan.pairs else [FLOAT32, FLOAT32_COPY, *plan.schemes]
        one = [*itertools.islice(reading, environments * len(arms))]
        assert {*one} == {(each.name, arm, first) for each in BOTH[:environments] for arm in arms}
        yield [each[:2] for each in one]
    assert next(reading, None) is None


@settings(max_examples=40)
@given(plans, st.sampled_from([1, 2]))
def test_all_arms_read_a_slice_before_any_reads_the_next_and_float32_only_the_pairs(plan, processes):
    recording, read = made_up(plan, BOTH[:environments])
    for slices, of_worker in zip(recording.slices, read, strict=True):
        assert len([*rounds(plan, processes, slices, of_worker)]) == plan.pairs + plan.more


@settings(max_examples=40)
@given(plans)
def test_a_recording_has_a_time_for_every_slice_and_none_where_float32_did_not_read(plan):
    recording, read = made_up(plan)
    assert recording.seconds.keys() == {HERE, THERE}
    for name, arms in recording.seconds.items():
        assert [*arms] == [FLOAT32, FLOAT32_COPY, *plan.schemes]
        for arm, workers in arms.items():
            assert len(workers) == plan.workers
            for number, times in enumerate(workers):
                skipped = plan.more if arm in (FLOAT32, FLOAT32_COPY) else 0
                places = plan.pairs + plan.more - skipped
                assert len(times) == plan.pairs + plan.more
                assert times[places:] == [None] * skipped
                assert None not in times[:places]
                assert recording.wall[name][arm][number] == [t and 2 * t for t in times]
                # Every reading takes longer than the one before it, so that times tell where they belong.
                mine = [first for *which, first in read[number] if which == [name, arm]]
                assert mine == recording.slices[number][:places]
                assert times[:places] == sorted(times[:places])
    told = every_time(recording.seconds)
    assert len({*told}) == len(told) == sum(map(len, read))
    assert json.loads(json.dumps(asdict(recording))) == json.loads(json.dumps(recording.__dict__))


@settings(max_examples=40)
@given(plans)
def test_every_arm_is_before_every_other_as_often_as_after_it(plan):
    plan = replace(plan, pairs=2 * plan.pairs, more=2 * plan.more)
    recording, read = made_up(plan)
    for slices, of_worker in zip(recording.slices, read, strict=True):
        before = Counter()
        for order in rounds(plan, 2, slices, of_worker):
            before.update(itertools.combinations(order, 2))
        assert before
        assert all(count == before[second, first] for (first, second), count in before.items())


def test_orders_and_slices_are_drawn_from_the_seed():
    plan = Plan(schemes=("int8",), workers=2, pairs=4, tokens=5)
    assert made_up(plan) == made_up(plan)
    other = made_up(replace(plan, seed=1))
    assert other[1] != made_up(plan)[1]
    assert other[0].slices != made_up(plan)[0].slices
    first, second = made_up(plan)[1]
    assert [each[2] for each in first] != [each[2] for each in second]


@settings(max_examples=40)
@given(plans)
def test_no_slice_comes_twice_before_all_have_come_once_and_all_lie_in_the_text(plan):
    recording, _ = made_up(plan)
    there = [*range(0, len(SPEED.stream) - plan.tokens + 1, plan.tokens)]
    for slices in recording.slices:
        times = Counter(slices)
        assert {*times} <= {*there}
        assert max(times.values()) - min(times[first] for first in there) <= 1
        assert all(first + plan.tokens <= len(SPEED.stream) for first in slices)


def test_whoever_waits_is_told_of_every_slice():
    told = []
    made_up(Plan(schemes=("int8",), workers=2, pairs=1, more=1), on_slice=told.append)
    assert told == [f"worker {worker} of 2, slice {place} of 2" for worker in (1, 2) for place in (1, 2)]


def test_a_text_that_is_no_longer_than_a_slice_is_refused(monkeypatch):
    """There is nothing to draw from, however often one tries."""

    def sample(_, population, k):
        assert population
        return [population[0]] * k

    monkeypatch.setattr(session.random.Random, "sample", sample)
    monkeypatch.setattr(session, "Asked", Workers())
    measure(WORKLOAD, Plan(schemes=("int8",), tokens=len(SPEED.stream)), BOTH)
    with pytest.raises(ValueError, match="100"):
        measure(WORKLOAD, Plan(schemes=("int8",), tokens=len(SPEED.stream) + 1), BOTH)


@pytest.mark.parametrize("name", ["workers", "pairs", "tokens", "bptt", "threads", "columns"])
def test_a_plan_without_anything_to_do_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
        Plan(schemes=("int8",), **{name: 0})


def test_the_clock_is_cpu_time_of_one_thread_and_else_wall_time():
    assert Plan(schemes=()).clock == "cpu"
    assert Plan(schemes=(), threads=2).clock == "wall"
    recording, _ = made_up(Plan(schemes=("int8",), workers=1, threads=2))
    assert recording.plan["clock"] == "wall"
    assert recording.seconds == recording.wall


# Environments.


def test_here_is_this_interpreter_with_the_lstmq_that_runs_and_no_current_folder(monkeypatch):
    """An empty entry of PYTHONPATH is the current folder, where a torch or a json may lie."""
    for before, after in (({}, []), ({"PYTHONPATH": "/one"}, ["/one"]), ({"PYTHONPATH": ""}, [])):
        monkeypatch.delenv("PYTHONPATH", raising=False)
        for key, value in before.items():
            monkeypatch.setenv(key, value)
        here = Environment.here()
        assert here.command == (sys.executable, "-P", "-m", "lstmq.gate.worker")
        folder = os.path.dirname(os.path.dirname(lstmq.__file__))  # noqa: PTH120 - as PYTHONPATH has it
        assert here.variables["PYTHONPATH"].split(os.pathsep) == [folder, *after]


def test_there_is_another_interpreter_with_nothing_of_this_one(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/one")
    monkeypatch.setenv("PYTHONHOME", "/two")
    there = Environment.there("python")
    assert there.command == ("python", "-P", "-m", "lstmq.gate.worker")
    assert there.variables.keys() == os.environ.keys() - {"PYTHONPATH", "PYTHONHOME"}


# Workers, asked in this process.


def served(*requests):
    """Return what a worker answers."""
    answers = io.StringIO()
    worker.serve(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), answers)
    assert answers.getvalue().endswith("\n")
    return [json.loads(line) for line in answers.getvalue().splitlines()]


@pytest.fixture
def parcels():
    with dump_subjects(WORKLOAD) as parcels:
        yield parcels


@pytest.fixture
def load(parcels):
    return {
        "do": "load",
        "subject": parcels["speed"],
        "schemes": ["int8", "int3"],
        "engine": None,
        "threads": 1,
        "bptt": 7,
        "cpu": -1,
    }


def test_a_worker_says_hello_and_answers_each_request_once(load, parcels):
    describe = {"do": "describe", "subject": parcels["loss"]}
    time = {"do": "time", "arm": "int8", "first": 20, "tokens": 10}
    hello, loaded, told, took, again = served(load, describe, time, time | {"arm": FLOAT32_COPY})
    assert hello.items() >= HELLO.items()
    assert hello["pid"] == os.getpid()
    assert loaded["machine"] == describe_machine()
    assert {*loaded["models"]} == {FLOAT32, FLOAT32_COPY, "int8"}
    assert loaded["absent"].keys() == {"int3"}
    assert "no such scheme: 'int3'" in loaded["absent"]["int3"]
    assert told["sizes"].keys() == told["fidelity"].keys() == {FLOAT32, "int8"}
    assert took.keys() == again.keys() == {"cpu", "wall"}


def test_a_reading_is_of_the_slice_and_the_target_of_its_last_word(load, monkeypatch):
    read = []
    monkeypatch.setattr(worker, "evaluate", lambda model, stream, bptt: read.append((stream, bptt)))
    served(load, {"do": "time", "arm": FLOAT32, "first": 20, "tokens": 10})
    stream, bptt = read[-1]  # before it, each scheme has read a word, to see that it can
    assert (len(read), bptt) == (2, 7)
    assert torch.equal(stream.inputs, SPEED.stream.inputs[20:30])
    assert torch.equal(stream.targets, SPEED.stream.targets[20:30])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be kept on a processor here")
def test_a_worker_that_may_not_be_kept_on_a_processor_says_so_and_goes_on(load, monkeypatch):
    asked, load = [], {key: value for key, value in load.items() if key not in ("do", "cpu")}
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, processors: asked.append((pid, processors)))
    assert worker.Worker().load(**load, cpu=1)["pinned"]
    assert asked == [(0, {1})]
    assert not worker.Worker().load(**load, cpu=-1)["pinned"]

    def forbid(pid, processors):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    assert not worker.Worker().load(**load, cpu=1)["pinned"]


@pytest.mark.parametrize("engine", [e for e in torch.backends.quantized.supported_engines if e != "none"])
def test_a_model_that_is_moved_computes_what_it_did_on_the_engine_that_it_was_made_for(load, engine):
    """torch packs the weights of a copy anew, for the engine that is set then."""
    asked = worker.Worker()
    del load["do"]
    asked.load(**load | {"engine": engine})
    before = {name: evaluate(model, SPEED.stream, 7) for name, model in asked.models.items()}
    models = dict(asked.models)
    for name in models:
        asked.move(name)
        assert asked.models[name] is not models[name]
    assert {name: evaluate(model, SPEED.stream, 7) for name, model in asked.models.items()} == before


def test_a_scheme_that_only_the_model_of_the_loss_cannot_bear_ends_all_in_one_line(load, parcels, monkeypatch):
    made = []

    def quantize_once(model, scheme, engine):
        if made:
            raise ValueError("too small")
        made.append(scheme)
        return quantize(model, scheme, engine)

    monkeypatch.setattr(worker, "quantize", quantize_once)
    _, loaded, refused = served(load | {"schemes": ["int8"]}, {"do": "describe", "subject": parcels["loss"]})
    assert loaded["absent"] == {}
    assert refused == {"error": "the model of the loss has no int8: too small"}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"engine": "abacus"}, "no engine 'abacus'"),
        ({"subject": {"which": "speed", "made_by": "", "folder": "nowhere"}}, "nowhere"),
    ],
)
def test_a_worker_that_cannot_says_why_in_one_line_and_ends(load, wrong, reason):
    _, refused = served(load | wrong, {"do": "time", "arm": "int8", "first": 0, "tokens": 5})
    assert refused.keys() == {"error"}
    assert reason in refused["error"]
    assert "\n" not in refused["error"]


# Real processes.


@pytest.fixture
def processes(monkeypatch, tmp_path):
    """All processes that sessions start; none may be left, nor any file."""
    started, real = [], subprocess.Popen

    def popen(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[-1]

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    yield started
    assert all(process.returncode is not None for process in started)
    assert not [*(tmp_path / "temporary").iterdir()]


def test_a_session_of_real_workers_records_what_is_computed_here(processes):
    """Sizes are of the model that is timed, losses of the other one; the models are as they were."""
    before = copy.deepcopy(WORKLOAD)
    plan = Plan(schemes=("int8", "bf16"), workers=2, pairs=2, more=2, tokens=10, bptt=7)
    here = Environment.here()
    recording = measure(WORKLOAD, plan, [here, replace(here, name=THERE)])
    assert len(processes) == 4
    assert recording.plan == asdict(plan) | {"clock": "cpu"}
    assert [len(slices) for slices in recording.slices] == [4, 4]
    models = {name: quantize(WORKLOAD.loss.model, name) for name in plan.schemes}
    everyone = {FLOAT32: WORKLOAD.loss.model, **models}
    compared = compare_predictions(WORKLOAD.loss.model, everyone, WORKLOAD.loss.stream, 7)
    for name, told in recording.environments.items():
        assert told.items() >= HELLO.items()
        assert told["place"] == os.path.dirname(lstmq.__file__)  # noqa: PTH120 - as it is told
        assert told["machine"] == describe_machine() | {"threads": 1}
        assert {*told["models"]} == {FLOAT32, FLOAT32_COPY, "int8", "bf16"}
        assert told["absent"] == {}
        assert told["fidelity"] == {name: asdict(each) for name, each in compared.items()}
        assert told["sizes"][FLOAT32]["total"] == model_size(SPEED.model).total
        assert told["sizes"]["int8"] == asdict(model_size(quantize(SPEED.model, "int8")))
        losses = {name: evaluate(model, WORKLOAD.loss.stream, 7) for name, model in everyone.items()}
        assert {name: each.loss for name, each in compared.items()} == pytest.approx(losses, rel=1e-6)
        for seconds in (recording.seconds, recording.wall):
            for arm in told["models"]:
                times = [t for each in seconds[name][arm] for t in each]
                assert [t is None for t in times] == [False, False, *[arm in (FLOAT32, FLOAT32_COPY)] * 2] * 2
                assert all(t > 0 for t in times if t is not None)
    for was, now in ((before.speed, WORKLOAD.speed), (before.loss, WORKLOAD.loss)):
        assert all(torch.equal(weight, was.model.state_dict()[key]) for key, weight in now.model.state_dict().items())


def started(program, *more):
    return Environment(name=THERE, command=(sys.executable, "-S", "-P", *more, "-c", program), variables=os.environ)


def saying(*lines, then=""):
    return started(f"import os, sys, time\nfor line in {lines!r}: print(line, flush=True)\n{then}")


FOR_EVER = "time.sleep(100)"
PROTOCOL_99 = json.dumps({"protocol": 99, "lstmq": "9.9.9"})
failures = {
    "dies": (saying(then="sys.exit('boom')"), "ended, exit code 1: boom"),
    "dies of a signal": (saying(then="os.kill(os.getpid(), 9)"), "ended, exit code -9"),
    "has no lstmq": (
        Environment(name=THERE, command=(sys.executable, "-S", "-P", "-m", "lstmq.gate.worker"), variables={}),
        "No module named 'lstmq'",
    ),
    "dies later": (saying(json.dumps(HELLO), then="sys.exit('boom')"), "ended, exit code 1: boom"),
    "does not listen": (saying(json.dumps(HELLO), then="os.close(0); sys.exit('boom')"), "ended, exit code 1: boom"),
    "ends in a line": (saying(then="sys.stdout.write('{'); sys.exit()"), "ended, exit code 0"),
    "says rubbish": (saying("welcome", then=FOR_EVER), "said 'welcome'"),
    "says much rubbish": (saying("welcome" * 10_000, then=FOR_EVER), "said 'welcomewelcome"),
    "says nothing at all": (saying("", then=FOR_EVER), "said ''"),
    "says a number": (saying("5", then=FOR_EVER), "said '5'"),
    "says null": (saying("null", then=FOR_EVER), "said 'null'"),
    "says a list": (saying("[1]", then=FOR_EVER), "said '[1]'"),
    "says a text": (saying('"text"', then=FOR_EVER), "said '\"text\"'"),
    "says no UTF-8": (saying(then=rf"os.write(1, b'\xff\n'); {FOR_EVER}"), "said "),
    "is of another version": (saying(PROTOCOL_99, then=FOR_EVER), "speaks version 99 of the protocol (lstmq 9.9.9)"),
    "refuses in two lines": (saying(json.dumps({"error": "one\ntwo"}), then=FOR_EVER), "one two"),
    "hangs": (saying(then=FOR_EVER), "said nothing for"),
    "hangs later": (saying(json.dumps(HELLO), then=FOR_EVER), "said nothing for"),
    "is not there": (Environment.there("/no/such/python"), "cannot start /no/such/python: No such file"),
    "cannot be run": (Environment.there(lstmq.__file__), "cannot start "),
}


@pytest.mark.parametrize(("environment", "message"), failures.values(), ids=failures)
def test_a_worker_that_fails_is_one_line_that_names_it(environment, message, processes, monkeypatch):
    if "nothing for" in message:
        monkeypatch.setattr(processes, "PATIENCE", 0.5)
    plan = Plan(schemes=("int8",), workers=1, pairs=1, tokens=10)
    with pytest.raises(SessionError) as caught:
        measure(WORKLOAD, plan, [environment])
    assert message in str(caught.value)
    assert "there" in str(caught.value) or environment.command[0] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


def test_a_worker_that_fails_takes_the_other_with_it(processes):
    """Both are started before either is asked."""
    plan = Plan(schemes=("int8",), workers=1, pairs=1, tokens=10)
    good = replace(saying(json.dumps(HELLO), then=FOR_EVER), name=HERE)
    for bad in ("dies", "is not there"):
        with pytest.raises(SessionError):
            measure(WORKLOAD, plan, [good, failures[bad][0]])


def test_a_worker_that_stops_reading_a_long_request_hangs_too(processes, monkeypatch):
    """The request is longer than what a pipe holds, so that writing it waits for the worker."""
    monkeypatch.setattr(processes, "PATIENCE", 0.5)
    caught = []

    def run():
        try:
            with processes.WorkerProcess(saying(json.dumps(HELLO), then=FOR_EVER)) as asked:
                asked.send(do="load", words=[0] * 100_000)
        except SessionError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=5)
    for process in processes:
        process.kill()
    thread.join()
    [error] = caught
    assert "said nothing for" in str(error)


def test_a_real_worker_that_refuses_is_one_line(processes):
    plan = Plan(schemes=("int8",), workers=1, pairs=1, tokens=10, engine="abacus")
    with pytest.raises(SessionError, match=r"^the worker here: no engine 'abacus' in torch .*$"):
        measure(WORKLOAD, plan, [Environment.here()])
    assert len(processes) == 1


def test_an_engine_that_was_moved_gets_ready_before_it_is_timed(model, monkeypatch):
    """What packs, compiles or makes a session when it first reads does so on no clock."""
    read, asked = [], worker.Worker()
    monkeypatch.setattr(worker, "evaluate", lambda model, stream, bptt: read.append((type(model), len(stream), bptt)))
    asked.engine, asked.bptt, asked.stream = None, 25, next_words(batchify(stream(30, 60, 0), 1))
    asked.models = {name: quantize(model, name) for name in ("int8", "int8-native")}
    before = asked.models["int8-native"]
    for name in asked.models:
        asked.move(name)
    assert read == [(NativeModel, 25, 25)]
    assert asked.models["int8-native"] is not before
