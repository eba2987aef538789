"""Laws of int8 modules under torch.compile, torch.export and torch's other ways to look into a model.

1. A compiled or exported model returns the bits of eager mode, without a graph break inside our modules.
2. What cannot work is refused in one line.
"""

import re

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_sequence

from lstmq import QuantizationError, quantize
from lstmq.quantization.native import operators
from lstmq.quantization.native.layout import RecurrentLayout
from lstmq.quantization.native.operators import HAS_OPERATORS

needs_operators = pytest.mark.skipif(not HAS_OPERATORS, reason="torch before 2.4 has no operators in Python")
# Compiling with this backend checks the operators as inductor does, but needs no compiler and less time.
BACKEND = "aot_eager"


class Reader(nn.Module):
    """Reads ids, shape ``(n, bsz)``, with every kind of module."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.emb, self.lstm = nn.Embedding(20, 6), nn.LSTM(6, 4, 2, bidirectional=True, proj_size=3)
        self.gru = nn.GRU(6, 5, batch_first=True, bias=False)
        self.cells, self.out = nn.ModuleList([nn.LSTMCell(5, 4), nn.GRUCell(4, 4)]), nn.Linear(4, 20)

    def forward(self, ids, hx=None):
        x, hx = self.lstm(self.emb(ids), hx)
        x, _ = self.gru(x.transpose(0, 1))
        first, second, outputs = None, None, []
        for step in x.unbind(1):
            first = self.cells[0](step, first)
            second = self.cells[1](first[0], second)
            outputs.append(self.out(second))
        return torch.stack(outputs), hx


IDS = torch.arange(12).view(4, 3)


@pytest.fixture(scope="module")
def quantized():
    return quantize(Reader(), "int8-native")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


def equal(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else all(map(equal, a, b))


@needs_operators
@pytest.mark.slow
@pytest.mark.parametrize("backend", [BACKEND, "inductor"])
def test_compiled_model_returns_the_bits_of_eager_mode_without_a_graph_break(quantized, backend):
    compiled = torch.compile(quantized, backend=backend, fullgraph=True)
    expected = quantized(IDS)
    assert equal(compiled(IDS), expected)
    state = expected[1]
    assert equal(compiled(IDS, state), quantized(IDS, state))


@needs_operators
@pytest.mark.slow
def test_compiled_model_reads_other_numbers_of_columns_and_sees_changed_weights():
    model = quantize(nn.Sequential(nn.Embedding(20, 6), nn.LSTM(6, 5)), "int8-native")
    compiled = torch.compile(model, backend=BACKEND, fullgraph=True, dynamic=True)
    for ids in (IDS, IDS[:, :2], IDS[:2].repeat(1, 3)):
        assert equal(compiled(ids), model(ids))
    other = quantize(nn.Sequential(nn.Embedding(20, 6), nn.LSTM(6, 5)), "int8-native")
    before = compiled(IDS)
    model.load_state_dict(other.state_dict())
    assert equal(compiled(IDS), other(IDS))
    assert not equal(compiled(IDS), before)


@needs_operators
@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("ordered", [False, True])
def test_compiled_module_reads_packed_sequences(kind, ordered):
    model = quantize(kind(6, 5, bidirectional=True), "int8-native")
    sequences = [torch.randn(n, 6) for n in ((4, 3, 1) if ordered else (1, 4, 3))]
    packed = pack_sequence(sequences, enforce_sorted=ordered)
    compiled = torch.compile(model, backend=BACKEND, fullgraph=not ordered)  # else its first batch size is a number
    expected, state = model(packed)
    output, compiled_state = compiled(packed)
    assert torch.equal(output.data, expected.data)
    assert equal(compiled_state, state)


@needs_operators
@pytest.mark.slow
def test_exported_model_returns_the_bits_of_eager_mode_also_after_it_was_saved(quantized, tmp_path):
    exported = torch.export.export(quantized, (IDS,))
    assert equal(exported.module()(IDS), quantized(IDS))
    names = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert {"lstmq.linear.default", "lstmq.recurrent.default"} <= names
    torch.export.save(exported, tmp_path / "m.pt2")
    assert equal(torch.export.load(tmp_path / "m.pt2").module()(IDS), quantized(IDS))


LAYOUTS = [RecurrentLayout("LSTM", 2, 2, True, True), RecurrentLayout("GRU", 1, 1, False, False)]


@needs_operators
@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["LSTM", "GRU"])
def test_operators_keep_the_rules_of_torch(layout, packed):
    options = {"num_layers": layout.layers, "bidirectional": layout.directions == 2, "bias": layout.bias}
    if layout.projection:
        options["proj_size"] = 3
    model = quantize(getattr(nn, layout.kind)(6, 5, **options), "int8-native")
    tensors = [getattr(model, f"{part}{suffix}") for suffix in layout.suffixes for part in layout.parts]
    x, sizes = (torch.randn(7, 6), torch.tensor([3, 2, 2])) if packed else (torch.randn(4, 3, 6), None)
    h, c = torch.randn(len(layout.suffixes), 3, 3 if layout.projection else 5), torch.randn(len(layout.suffixes), 3, 5)
    states = [(h, c if layout.kind == "LSTM" else None), (None, None)]
    for h, c in states:
        torch.library.opcheck(torch.ops.lstmq.recurrent, (x, sizes, h, c, tensors, *layout))
    linear = quantize(nn.Linear(6, 5), "int8-native")
    torch.library.opcheck(torch.ops.lstmq.linear, (torch.randn(4, 6), [linear.int8, linear.scale, linear.bias]))


@needs_operators
def test_fake_tensors_get_the_shapes_of_real_ones(quantized):
    output, state = quantized(IDS)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake, fake_state = quantized(mode.from_tensor(IDS))
    assert fake.shape == output.shape
    assert [x.shape for x in fake_state] == [x.shape for x in state]


def test_tracing_and_transforms_are_refused_in_one_line():
    model, x = quantize(nn.Sequential(nn.Linear(6, 5)), "int8-native"), torch.randn(3, 6)
    message = "int8-native computes outside of torch: torch cannot"
    for transform in (lambda: torch.jit.trace(model, x), lambda: torch.vmap(model)(x)):
        with pytest.raises(QuantizationError, match=message) as error:
            transform()
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_compiling_is_refused_where_torch_has_no_operators(monkeypatch):
    monkeypatch.setattr(operators, "HAS_OPERATORS", False)
    model, x = quantize(nn.Sequential(nn.Linear(6, 5)), "int8-native"), torch.randn(3, 6)
    assert model(x).shape == (3, 5)
    with pytest.raises(Exception, match=re.escape("int8-native, with a torch before 2.4, computes outside of torch")):
        torch.compile(model, backend=BACKEND, fullgraph=True)(x)
