"""Laws of the comparison: one reading of the same windows in turn; ratios belong to pairs."""

import json
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmq import Dictionary, batchify, evaluate, model_size, next_words, perplexity, quantize
from lstmq.comparison import paired
from lstmq.comparison.paired import Quartiles, compare
from lstmq.report.tables import as_json, comparison_table, describe_spread
from lstmq.workload.subject import Subject, Workload
from strategies import stream

seconds = st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)), min_size=1, max_size=30)


@pytest.fixture
def workload(model, dictionary):
    subject = Subject(
        model=model, dictionary=dictionary, stream=next_words(batchify(stream(30, 50, 0), 1)), origin="a test"
    )
    return Workload(speed=subject, loss=subject)


@given(seconds, st.floats(0.1, 10), st.randoms())
def test_a_ratio_is_of_pairs(pairs, factor, random):
    """The middle of the ratios, whatever the order of the pairs; a slow moment that hits both sides is no matter."""
    ratio = Quartiles.of_pairs(*zip(*pairs, strict=True))
    assert ratio.median == pytest.approx(statistics.median(a / b for a, b in pairs))
    assert ratio.lower <= ratio.median <= ratio.upper
    disturbed = [(a * factor, b * factor) for a, b in random.sample(pairs, len(pairs))]
    assert Quartiles.of_pairs(*zip(*disturbed, strict=True)).median == pytest.approx(ratio.median)


def test_rows_are_float32_and_the_schemes_with_their_own_sizes_and_losses(workload, model):
    rows = compare(workload, ["int8", "bf16"], bptt=7)
    assert rows[0].name == "float32"
    assert {row.name for row in rows[1:]} == {"int8", "bf16"}
    assert rows[1].speedup.median <= rows[2].speedup.median
    for row in rows:
        expected = model if row.name == "float32" else quantize(model, row.name)
        assert row.size == model_size(expected)
        assert row.loss == evaluate(expected, workload.loss.stream, 7)
        assert row.loss_difference == row.loss - rows[0].loss
        assert row.size_ratio == rows[0].size.total / row.size.total
        assert row.perplexity == perplexity(row.loss)
        assert row.tokens == 49
        assert row.seconds > 0
        assert row.ready > 0
        assert row.tokens_per_second == 49 / row.seconds
    assert rows[0].speedup == Quartiles(median=1, lower=1, upper=1)


def test_faster_is_float32s_time_over_the_schemes(workload, model, monkeypatch):
    """With a clock that counts 3 for a window of float32, and 2 for one of int8."""
    now = 0.0

    def spend(candidate, source, bptt):
        nonlocal now
        for window in real(candidate, source, bptt):
            now += 3 if candidate is model else 2
            yield window

    real = paired.window_losses
    monkeypatch.setattr(paired, "window_losses", spend)
    monkeypatch.setattr(paired, "clock", lambda: lambda: now)
    float32, int8 = compare(workload, ["int8"], bptt=7)
    assert (float32.seconds, int8.seconds) == (21, 14)
    assert int8.speedup == Quartiles(median=1.5, lower=1.5, upper=1.5)


def test_the_engine_is_that_of_every_scheme_for_speed_and_loss(workload, monkeypatch):
    asked = []
    real = paired.quantize
    monkeypatch.setattr(paired, "quantize", lambda *arguments: asked.append(arguments[1:]) or real(*arguments))
    other = Subject(model=workload.speed.model, dictionary=Dictionary(), stream=workload.speed.stream, origin="")
    compare(Workload(speed=workload.speed, loss=other), ["int8", "bf16"], bptt=7, engine="qnnpack")
    assert asked == [("int8", "qnnpack"), ("bf16", "qnnpack")] * 2


def test_the_loss_may_be_of_another_model_than_the_speed(workload, model):
    other = Subject(
        model=model, dictionary=Dictionary(), stream=next_words(batchify(stream(30, 20, 1), 1)), origin="another"
    )
    rows = compare(Workload(speed=workload.speed, loss=other), ["int8"], bptt=7)
    assert rows[0].loss == evaluate(model, other.stream, 7)
    assert rows[1].loss == evaluate(quantize(model), other.stream, 7)
    assert rows[0].tokens == 49


def test_all_models_read_a_window_before_any_reads_the_next_and_the_first_changes(workload, monkeypatch):
    read, ticks = [], []

    def spy(model, source, bptt):
        for window in real(model, source, bptt):
            read.append(model)
            yield window

    real = paired.window_losses
    monkeypatch.setattr(paired, "window_losses", spy)
    compare(workload, ["int8", "bf16"], bptt=7, on_window=ticks.append)
    rounds = [read[i : i + 3] for i in range(0, len(read), 3)]
    assert len(rounds) == 7
    assert all(len({id(model) for model in each}) == 3 for each in rounds)
    assert {id(each[0]) for each in rounds} == {id(model) for model in rounds[0]}
    assert sum(ticks) == 49


def test_seconds_are_cpu_time_of_the_one_thread(monkeypatch):
    import time

    assert torch.get_num_threads() == 1
    assert paired.clock() is time.thread_time
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert paired.clock() is time.perf_counter


def test_the_table_and_the_json_hold_the_rows(workload):
    rows = compare(workload, ["int8"], bptt=7)
    columns = {column.header: list(column.cells) for column in comparison_table(rows).columns}
    assert columns[""] == ["float32", "int8"]
    assert columns["MB"] == [f"{row.size.total / 1e6:.2f}" for row in rows]
    assert columns["faster"] == ["1.00x", f"{rows[1].speedup.median:.2f}x"]
    assert f"int8 {rows[1].speedup.lower:.2f}-{rows[1].speedup.upper:.2f}" in describe_spread(rows)
    written = json.loads(json.dumps(as_json(rows, {"bptt": 7})))
    assert written["bptt"] == 7
    assert written["rows"][1]["size"]["total"] == rows[1].size.total
    assert written["rows"][1]["perplexity"] == rows[1].perplexity
