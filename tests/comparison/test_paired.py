"""Laws of a comparison: all models read the same windows in turn, and ratios are computed pair by pair."""

import json
import statistics
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lstmq import QuantizationError, Subject, Workload, batchify, evaluate, model_size, next_words, perplexity, quantize
from lstmq.cli.compare import mkldnn_note
from lstmq.comparison import Comparison, paired
from lstmq.comparison.machine import describe_machine
from lstmq.comparison.paired import Quartiles, compare
from lstmq.report.tables import comparison_json, comparison_table, describe_setup, describe_spread
from strategies import random_ids

seconds = st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)), min_size=1, max_size=30)


def make_subject(model, tokens=50, seed=0):
    return Subject(model=model, stream=next_words(batchify(random_ids(30, tokens, seed), 1)), origin="a test")


@pytest.fixture
def workload(model):
    subject = make_subject(model)
    return Workload(speed=subject, loss=subject)


@given(seconds, st.floats(0.1, 10), st.randoms())
def test_quartiles_depend_only_on_the_ratio_of_each_pair(pairs, factor, random):
    """Neither the order of the pairs matters, nor a slow moment that affects both sides of a pair."""
    quartiles = Quartiles.of_pairs(*zip(*pairs, strict=True))
    assert quartiles.median == pytest.approx(statistics.median(a / b for a, b in pairs))
    assert quartiles.lower <= quartiles.median <= quartiles.upper
    slowed = [(a * factor, b * factor) for a, b in random.sample(pairs, len(pairs))]
    assert Quartiles.of_pairs(*zip(*slowed, strict=True)).median == pytest.approx(quartiles.median)


def test_rows_have_the_size_and_loss_of_each_model_and_are_sorted_by_speed(workload, model):
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
        assert row.setup_seconds > 0
        assert row.tokens_per_second == 49 / row.seconds
    assert rows[0].speedup == Quartiles(median=1, lower=1, upper=1)


def test_loss_may_come_from_another_model_than_the_speed(workload, model):
    other = make_subject(model, tokens=20, seed=1)
    float32, int8 = compare(Workload(speed=workload.speed, loss=other), ["int8"], bptt=7)
    assert float32.loss == evaluate(model, other.stream, 7)
    assert int8.loss == evaluate(quantize(model), other.stream, 7)
    assert float32.tokens == 49


def test_speedup_is_the_time_of_float32_over_that_of_the_scheme(workload, model, monkeypatch):
    """The clock counts 3 seconds for a window of float32, and 2 for one of int8."""
    now, window_losses = 0.0, paired.window_losses

    def spend_time(module, stream, bptt):
        nonlocal now
        for window in window_losses(module, stream, bptt):
            now += 3 if module is model else 2
            yield window

    monkeypatch.setattr(paired, "window_losses", spend_time)
    monkeypatch.setattr(paired, "clock", lambda: lambda: now)
    float32, int8 = compare(workload, ["int8"], bptt=7)
    assert (float32.seconds, int8.seconds) == (21, 14)
    assert int8.speedup == Quartiles(median=1.5, lower=1.5, upper=1.5)


def test_engine_is_passed_for_every_scheme_and_subject(workload, monkeypatch):
    calls = []
    monkeypatch.setattr(paired, "quantize", lambda *arguments: calls.append(arguments[1:]) or quantize(*arguments))
    other = make_subject(workload.speed.model)
    compare(Workload(speed=workload.speed, loss=other), ["int8", "bf16"], bptt=7, engine="qnnpack")
    assert calls == [("int8", "qnnpack", ()), ("bf16", "qnnpack", ())] * 2


def test_all_models_read_a_window_before_any_reads_the_next_and_take_turns_in_reading_first(workload, monkeypatch):
    read, tokens, window_losses = [], [], paired.window_losses

    def record(module, stream, bptt):
        for window in window_losses(module, stream, bptt):
            read.append(id(module))
            yield window

    monkeypatch.setattr(paired, "window_losses", record)
    compare(workload, ["int8", "bf16"], bptt=7, on_window=tokens.append)
    rounds = [read[start : start + 3] for start in range(0, len(read), 3)]
    assert len(rounds) == 7
    assert all(len({*modules}) == 3 for modules in rounds)
    assert {modules[0] for modules in rounds} == {*rounds[0]}
    assert tokens == [7] * 7


def break_scheme(monkeypatch, scheme, after):
    """Let the models of a scheme fail when they have read this many windows."""

    def broken(model, name, engine, keep):
        quantized = quantize(model, name, engine, keep)
        if name == scheme:
            reads = iter([None] * after)
            quantized.register_forward_pre_hook(lambda *_: next(reads))
        return quantized

    monkeypatch.setattr(paired, "quantize", broken)


@pytest.mark.parametrize("after", [0, 1, 3, 9])
def test_scheme_that_fails_is_left_out_with_its_reason(workload, monkeypatch, after):
    """It fails while it reads its first window, in the middle, or when the loss is measured."""
    break_scheme(monkeypatch, "int8", after)
    loss = make_subject(workload.speed.model, tokens=80)
    rows = compare(Workload(speed=workload.speed, loss=loss), ["int8", "bf16"], bptt=7)
    assert [row.name for row in rows] == ["float32", "bf16"]
    assert rows.left_out.keys() == {"int8"}
    assert "StopIteration" in rows.left_out["int8"]
    assert rows[1].loss == evaluate(quantize(workload.speed.model, "bf16"), loss.stream, 7)


def test_comparison_of_schemes_that_all_fail_is_an_error(workload):
    subject = Subject(model=nn.Sequential(nn.Embedding(30, 30)), stream=workload.speed.stream, origin="")
    with pytest.raises(QuantizationError, match=r"int8 failed: nothing to .*; ort-int8 failed: .* LSTMModel"):
        compare(Workload(speed=subject, loss=subject), ["int8", "ort-int8"], bptt=7)


def test_losses_that_are_not_finite_name_their_model(workload, monkeypatch):
    def break_bias(model, *arguments):
        quantized = quantize(model, *arguments)
        if arguments[0] == "bf16":
            quantized.decoder.bias.data[0] = float("nan")
        return quantized

    monkeypatch.setattr(paired, "quantize", break_bias)
    assert compare(workload, ["int8", "bf16"], bptt=7).left_out == {"bf16": "bf16's own loss is NaN"}
    workload.speed.model.decoder.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match="float32's own loss is NaN"):
        compare(workload, ["int8"], bptt=7)


def test_rows_say_what_was_quantized(workload):
    float32, *others = compare(workload, ["int8", "bf16"], bptt=7)
    assert float32.coverage is None
    float32_parts = {row.name: [part.name for part in row.coverage.float32] for row in others}
    assert float32_parts == {"int8": ["encoder"], "bf16": []}


@pytest.mark.parametrize(("gain", "lines"), [(4.0, 1), (1.05, 0), (None, 0)])
def test_command_says_if_float32_is_faster_without_mkldnn(gain, lines):
    notes = [*mkldnn_note(Comparison([], {}, gain))]
    assert len(notes) == lines
    assert all("torch.backends.mkldnn.enabled = False, float32 itself is 4.0 times" in note for note in notes)


def test_mkldnn_is_as_before_after_the_comparison(workload):
    assert torch._C._get_mkldnn_enabled()
    assert compare(workload, ["bf16"], bptt=7).mkldnn_off > 0
    assert torch._C._get_mkldnn_enabled()


def test_clock_is_cpu_time_with_one_thread_and_else_wall_time(monkeypatch):
    assert torch.get_num_threads() == 1
    assert paired.clock() is time.thread_time
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert paired.clock() is time.perf_counter


def test_table_and_json_show_the_rows(workload):
    rows = compare(workload, ["int8"], bptt=7)
    columns = {column.header: list(column.cells) for column in comparison_table(rows).columns}
    assert columns[""] == ["float32", "int8"]
    assert columns["MB"] == [f"{row.size.total / 1e6:.2f}" for row in rows]
    assert columns["faster"] == ["1.00x", f"{rows[1].speedup.median:.2f}x"]
    assert f"int8 {rows[1].speedup.lower:.2f}-{rows[1].speedup.upper:.2f}" in describe_spread(rows)
    assert f"int8 {rows[1].setup_seconds:.1f} s" in describe_setup(rows)
    document = json.loads(json.dumps(comparison_json(rows, workload, describe_machine(), bptt=7)))
    assert (document["bptt"], document["workload"]["loss"]) == (7, "a test")
    assert document["rows"][1]["size"]["total"] == rows[1].size.total
    assert document["rows"][1]["perplexity"] == rows[1].perplexity
