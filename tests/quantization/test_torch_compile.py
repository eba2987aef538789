"""Laws of torch.compile as an engine: one compilation, for it takes its time."""

import pytest
import torch
from packaging.version import Version

from lstmq import QuantizationError, batchify, evaluate, quantize
from lstmq.quantization import torch_compile
from strategies import stream


@pytest.mark.skipif(bool(torch_compile.missing_compiler()), reason="needs a C++ compiler")
def test_it_says_what_bfloat16_says_and_is_compiled(model):
    source = batchify(stream(30, 41, 0), 1)
    quantized = quantize(model, "bf16-compile")
    counted = torch._dynamo.utils.counters
    before = counted["stats"]["unique_graphs"]
    loss = evaluate(quantized, source, 20)
    assert counted["stats"]["unique_graphs"] > before  # of the windows, of which torch 2.2 makes two
    # An older torch leaves the LSTM as it is, and compiles what is around it.
    assert not counted["graph_break"] or Version(torch.__version__) < Version("2.13")
    assert loss == pytest.approx(evaluate(quantize(model, "bf16"), source, 20), abs=0.01)
    logits, _ = quantized(source, quantized.init_hidden(1))
    assert logits.dtype == torch.bfloat16


def test_without_a_compiler_it_says_so(model, monkeypatch):
    monkeypatch.setenv("CXX", "nothing-such --fast")
    with pytest.raises(QuantizationError, match=r"bf16-compile needs a C\+\+ compiler, nothing-such, on the path"):
        quantize(model, "bf16-compile")
