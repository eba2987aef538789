"""Laws of the time per word: each model reads one word at a time, and goes on from the state before it."""

import itertools

import pytest
import torch
from torch import nn

from lstmq import Subject, Workload, batchify, compare, next_words, quantize
from lstmq.comparison import words
from lstmq.comparison.words import FLOAT32_NO_MKLDNN, READING, bytes_per_word, measure_words, word_reader
from lstmq.quantization.native import available_isas
from lstmq.report.tables import describe_words
from strategies import random_ids

STREAM = next_words(batchify(random_ids(30, 61, 0), 2))  # 29 steps of two columns
HAS_KERNELS = available_isas()[1:] != []


def test_language_model_reads_one_column_word_by_word_and_starts_again_at_the_end(model):
    ids = STREAM.inputs[:, :1]
    reader, mode = word_reader(model, STREAM), model.training
    logits = torch.cat([next(reader) for _ in range(len(ids))])
    again = next(reader)
    reader.close()
    assert model.training == mode
    model.eval()
    with torch.no_grad():
        expected, hidden = model(ids, model.init_hidden(1))
        expected_again, _ = model(ids[:1], hidden)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(again, expected_again, atol=1e-5)


class Tagger(nn.Module):
    """A module that is no language model, and notes the steps of its inputs."""

    def __init__(self, at_least=1):
        super().__init__()
        self.embedding, self.linear, self.steps, self.at_least = nn.Embedding(30, 8), nn.Linear(8, 30), [], at_least

    def forward(self, input):
        if len(input) < self.at_least:
            raise RuntimeError("too short")
        self.steps.append(input.shape)
        return self.linear(self.embedding(input))


def test_other_module_reads_all_columns_step_by_step():
    tagger = Tagger()
    for _ in itertools.islice(word_reader(tagger, STREAM), len(STREAM) + 3):
        pass
    assert {*tagger.steps} == {(1, 2)}
    assert len(tagger.steps) == len(STREAM) + 3


def test_times_are_those_of_all_models_and_of_what_bounds_them(model):
    models = {"float32": model, "int8-native": quantize(model, "int8-native"), "too long": Tagger(at_least=2)}
    times, failed = measure_words(models, STREAM)
    mkldnn = {FLOAT32_NO_MKLDNN} if torch._C._has_mkldnn else set()
    assert times.keys() == {"float32", "int8-native"} | mkldnn | ({READING} if HAS_KERNELS else set())
    assert all(time > 0 for time in times.values())
    assert failed == {"too long": "RuntimeError: too short"}


def test_bytes_per_word_are_those_of_all_int8_matrices_but_the_embedding(model):
    native = quantize(model, "int8-native")
    matrices = [
        x for name, x in native.state_dict().items() if x.dtype == torch.int8 and not name.startswith("encoder")
    ]
    assert bytes_per_word(native.config) == sum(matrix.numel() for matrix in matrices)


def test_us_per_word_is_the_median_over_rounds(model, monkeypatch):
    rates = {"float32": [1e3, 2e3, 1e6], FLOAT32_NO_MKLDNN: [4e3] * 3}
    monkeypatch.setattr(words, "measure_rates", lambda works, *_, **__: rates)
    assert measure_words({"float32": model}, STREAM)[0] == {"float32": 500.0, FLOAT32_NO_MKLDNN: 250.0}


def make_workload(module):
    subject = Subject(model=module, stream=STREAM, origin="a test")
    return Workload(speed=subject, loss=subject)


def test_comparison_has_the_time_per_word_of_every_row(model):
    rows = compare(make_workload(model), ["int8", "bf16"], bptt=7)
    assert all(row.us_per_word > 0 for row in rows)
    assert not rows.us_per_word.keys() & {"float32", "int8", "bf16", "ort-fp32"}


def test_comparison_of_a_module_that_reads_no_single_step_has_none():
    rows = compare(make_workload(Tagger(at_least=2)), ["bf16"], bptt=29)
    assert [row.us_per_word for row in rows] == [None, None]


def test_float32_of_onnx_runtime_is_timed_beside_int8_native(model):
    pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")
    rows = compare(make_workload(model.eval()), ["int8-native"], bptt=7)
    assert [row.name for row in rows] == ["float32", "int8-native"]
    assert rows.us_per_word["ort-fp32"] > 0
    lines = describe_words(rows)
    assert "ort-fp32" in lines[1]
    assert len(lines) == (3 if HAS_KERNELS else 2)
    if HAS_KERNELS:
        ratio = rows[1].us_per_word / rows.us_per_word[READING]
        assert f"{ratio:.2f} times what reading its weights takes" in lines[2]
