"""Laws of bfloat16: every processor runs it; the compiled scheme is compiled, and its loss is that of bfloat16."""

import copy
import platform
from types import SimpleNamespace

import pytest
import torch
from packaging.version import Version

from lstmq import QuantizationError, batchify, evaluate, quantize
from lstmq.quantization import bfloat16
from strategies import random_ids


@pytest.mark.slow
@pytest.mark.skipif(bool(bfloat16.missing_compiler()), reason="needs a C++ compiler")
@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="torch compiles an LSTM in bfloat16 into an operator that needs AVX-512, without checking for it",
)
def test_bf16_compile_compiles_the_model_and_has_the_loss_of_bf16(model):
    source = batchify(random_ids(30, 41, 0), 1)
    quantized = quantize(model, "bf16-compile")
    counters = torch._dynamo.utils.counters
    before = counters["stats"]["unique_graphs"]
    loss = evaluate(quantized, source, 20)
    assert counters["stats"]["unique_graphs"] > before
    # Before torch 2.13, torch.compile leaves the LSTM as it is and compiles the code around it.
    assert not counters["graph_break"] or Version(torch.__version__) < Version("2.13")
    assert loss == pytest.approx(evaluate(quantize(model, "bf16"), source, 20), abs=0.01)
    logits, _ = quantized(source, quantized.init_hidden(1))
    assert logits.dtype == torch.bfloat16


def test_bf16_compile_without_a_compiler_names_what_is_missing(model, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler --fast")
    with pytest.raises(QuantizationError, match=r"bf16-compile needs a C\+\+ compiler, no-such-compiler, on the path"):
        quantize(model, "bf16-compile")


@pytest.mark.parametrize("enabled", [True, False])
def test_bf16_runs_an_lstm_that_mkldnn_refuses_and_restores_its_switch(model, monkeypatch, enabled):
    source = batchify(random_ids(30, 41, 0), 1)
    expected = evaluate(quantize(model, "bf16"), source, 20)
    runs = torch.lstm

    def refuse_mkldnn(*arguments):
        """Do what an old torch does with an LSTM in bfloat16 on a processor without AVX-512."""
        if torch._C._get_mkldnn_enabled():
            raise RuntimeError("could not create a primitive descriptor")
        return runs(*arguments)

    monkeypatch.setattr("torch.lstm", refuse_mkldnn)
    monkeypatch.setattr("torch.nn.modules.rnn._VF", SimpleNamespace(lstm=refuse_mkldnn))
    quantized = copy.deepcopy(quantize(model, "bf16"))
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(enabled)
    try:
        assert evaluate(quantized, source, 20) == pytest.approx(expected, abs=0.01)
        assert torch._C._get_mkldnn_enabled() == enabled
        with pytest.raises(RuntimeError, match=r"input|mat1"):
            quantized.rnn(torch.zeros(5, 1, 99, dtype=torch.bfloat16))
        assert torch._C._get_mkldnn_enabled() == enabled
    finally:
        torch._C._set_mkldnn_enabled(before)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the vector instructions of x86")
def test_processor_without_avx512_is_slow_with_every_torch(monkeypatch):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert "bfloat16 instructions" in bfloat16.missing_instructions()
