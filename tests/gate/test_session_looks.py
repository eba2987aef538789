"""Laws of looks in a session: it looks only when planned, and reads on with no more than what is undecided."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate.fakes import ONE_LOOK, UNQUANTIZED, WORKLOAD, FakeEnvironment, FakeWorker, measure_fake
from lstmq.gate.processes import SessionError
from lstmq.gate.session import measure

PLAN = replace(ONE_LOOK, schemes=("int8", "bf16"), looks=(2, 4, 8), blocks=2, tokens=5)
SPEEDUP = {"int8 speedup": ("float32", "int8")}


def read_by_process(recording, model):
    """Return, for each process, whether a model read in it, which is the same in all environments."""
    sides = [
        [any(time is not None for time in process) for process in environment.seconds[model]]
        for environment in recording.environments.values()
    ]
    assert all(side == sides[0] for side in sides)
    return sides[0]


def test_session_ends_at_the_first_look_that_finds_nothing_undecided():
    recording, _ = measure_fake(PLAN, undecided=lambda recording: {})
    assert len(recording.slices) == 1
    assert recording.undecided == [[]]


def test_session_reads_on_with_the_models_of_undecided_figures_only():
    answers = iter([SPEEDUP, {"int8 slower": ("int8",)}, {"int8 slower": ("int8",)}])
    recording, _ = measure_fake(PLAN, undecided=lambda recording: next(answers))
    assert recording.undecided == [["int8 speedup"], ["int8 slower"], ["int8 slower"]]
    assert read_by_process(recording, "bf16") == [True, False, False, False]
    assert read_by_process(recording, "float32 again") == [True, False, False, False]
    assert read_by_process(recording, "float32") == [True, True, False, False]
    assert read_by_process(recording, "int8") == [True, True, True, True]


def test_settled_schemes_are_not_quantized_again(monkeypatch):
    asked, load = [], FakeWorker.load

    def note_and_load(self, *, plan, **arguments):
        asked.append(plan.schemes)
        return load(self, plan=plan, **arguments)

    monkeypatch.setattr(FakeWorker, "load", note_and_load)
    answers = iter([SPEEDUP, {}])
    measure_fake(PLAN, names=("here",), undecided=lambda recording: next(answers))
    assert asked == [("int8", "bf16"), ("int8",)]


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=3, max_size=3))
def test_session_looks_after_the_planned_numbers_of_blocks_and_never_between(go_on):
    counts = []

    def undecided(recording):
        counts.append(PLAN.blocks * len(recording.slices))
        return SPEEDUP if go_on[len(counts) - 1] else {}

    measure_fake(PLAN, undecided=undecided)
    taken = go_on.index(False) + 1 if False in go_on else 3
    assert counts == [*PLAN.looks[:taken]]


def test_scheme_that_works_in_the_first_process_only_ends_the_session(monkeypatch):
    load = FakeWorker.load

    def load_once(self, **arguments):
        loaded = load(self, **arguments)
        return loaded if self.number == 0 else replace(loaded, models=[*UNQUANTIZED], absent={"int8": "out of memory"})

    monkeypatch.setattr(FakeWorker, "load", load_once)
    with pytest.raises(SessionError, match="int8 worked in the first process here, and then did not: out of memory"):
        measure(WORKLOAD, PLAN, [FakeEnvironment("here", [], [])], lambda recording: SPEEDUP)


@pytest.mark.parametrize(
    ("processors", "threads", "ahead"), [({0, 1}, 1, [2, 4]), ({3, 5, 7}, 1, [2, 4]), ({0}, 1, []), ({0, 1}, 2, [])]
)
def test_next_workers_load_on_another_processor_while_others_read(monkeypatch, processors, threads, ahead):
    """They are not started before a look, because nothing may be left to read after it."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: processors, raising=False)
    plan = replace(PLAN, looks=(2, 4, 5), blocks=1, threads=threads)
    started, start = [], FakeEnvironment.start

    def note_and_start(self, processor=-1):
        started.append((self.started + 1, processor, {number + 1 for number in self.alive}))
        return start(self, processor)

    monkeypatch.setattr(FakeEnvironment, "start", note_and_start)
    measure_fake(plan, names=("here",))
    assert [number for number, *_ in started] == [1, 2, 3, 4, 5]
    assert [number for number, processor, _ in started if processor != -1] == ahead
    assert [number for number, _, alive in started if alive == {number - 1}] == ahead
    assert all(
        processor in {-1, sorted(processors)[(number - 1) % len(processors)]} for number, processor, _ in started
    )


def test_workers_that_load_ahead_end_with_a_session_that_fails(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    environment = FakeEnvironment("here", [], [])

    def fail(self, **arguments):
        assert environment.alive == {0, 1}
        raise SessionError("no answer")

    monkeypatch.setattr(FakeWorker, "time", fail)
    with pytest.raises(SessionError, match="no answer"):
        measure(WORKLOAD, replace(PLAN, looks=(9,), blocks=3), [environment], lambda recording: SPEEDUP)
    assert not environment.alive
