"""Laws of the int8 modules.

1. A linear layer and one step of a cell are as near to torch's in float64 as their quantization allows.
2. A recurrent module is its cells: it returns the bits of a loop over layers, directions, columns and steps.
3. However a module is called (batch first, without columns, packed, in half precision), the numbers are the same.
4. They are near those of torch's modules.
"""

import copy
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from lstmq import QuantizationError, quantize
from strategies import seeds

# torch warns of what its own LSTM with projections lacks.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
widths = st.integers(1, 40)
scales = st.sampled_from([1e-3, 1.0, 30.0])


def quantized(module):
    return quantize(module, "int8-native")


def draw_weights(module, seed, scale=1.0):
    """Draw all weights and biases, some larger than others."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, scale * weight.shape[-1] ** -0.5, generator=generator)
    return module.eval()


def product_bound(x, weight):
    """Return by how much a product of rows, quantized to 8 bits, may differ from the exact one, in float64."""
    x, weight = x.double().abs(), weight.detach().double().abs()
    steps = [rows.amax(1) / 127 * 0.5001 for rows in (x, weight)]  # half a step of each row, and rounding
    sums = x.sum(1)[:, None] * steps[1] + steps[0][:, None] * weight.sum(1)
    return sums + x.shape[1] * steps[0][:, None] * steps[1] + 1e-5 * (x @ weight.T) + 1e-6


@given(rows=st.integers(1, 5), width=widths, height=widths, bias=st.booleans(), scale=scales, seed=seeds)
def test_linear_is_within_its_quantization_of_float64(rows, width, height, bias, scale, seed):
    module = draw_weights(nn.Linear(width, height, bias=bias), seed, scale)
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    exact = copy.deepcopy(module).double()(x.double())
    assert ((quantized(module)(x) - exact).abs() <= product_bound(x, module.weight) + 1e-6 * exact.abs()).all()


@given(kind=st.sampled_from(["LSTM", "GRU"]), rows=st.integers(1, 5), width=widths, units=widths, seed=seeds)
@pytest.mark.parametrize("bias", [True, False])
def test_step_of_a_cell_is_within_its_quantization_of_float64(kind, rows, width, units, bias, seed):
    cell = draw_weights(getattr(nn, f"{kind}Cell")(width, units, bias=bias), seed, 2.0)
    generator = torch.Generator().manual_seed(seed)
    x, h, c = (torch.randn(rows, n, generator=generator) for n in (width, units, units))
    bounds = product_bound(x, cell.weight_ih), product_bound(h, cell.weight_hh)
    double = copy.deepcopy(cell).double()
    if kind == "LSTM":
        # The sigmoid's slope is at most a quarter, the hyperbolic tangent's at most one.
        i, f, g, o = (bounds[0] + bounds[1]).chunk(4, 1)
        exact = double(x.double(), (h.double(), c.double()))
        found = quantized(cell)(x, (h, c))
        c_bound = c.abs() * f / 4 + i / 4 + g + 1e-5 * (1 + c.abs())
        assert ((found[1] - exact[1]).abs() <= c_bound).all()
        assert ((found[0] - exact[0]).abs() <= o / 4 + c_bound + 1e-5).all()
    else:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (bound.chunk(3, 1) for bound in bounds)
        bias_n = double.bias_hh[2 * units :] if bias else 0
        from_state = (h.double() @ double.weight_hh[2 * units :].T + bias_n).abs()
        n_bound = x_n + h_n + (x_r + h_r) / 4 * from_state
        exact = double(x.double(), h.double())
        bound = n_bound + (x_z + h_z) / 4 * (h.abs() + 1) + 1e-5 * (1 + h.abs() + from_state)
        assert ((quantized(cell)(x, h) - exact).abs() <= bound).all()


@st.composite
def recurrent_modules(draw):
    """Draw an LSTM or a GRU with any options, and sequences of different lengths and a state for it."""
    kind, units = draw(st.sampled_from(["LSTM", "GRU"])), draw(st.integers(2, 20))
    options = {name: draw(st.booleans()) for name in ("bias", "batch_first", "bidirectional")}
    options["num_layers"] = draw(st.integers(1, 3))
    if kind == "LSTM" and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, units - 1))
    seed = draw(seeds)
    module = draw_weights(getattr(nn, kind)(draw(st.integers(1, 20)), units, **options), seed)
    generator = torch.Generator().manual_seed(seed)
    lengths = sorted(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)), reverse=True)
    sequences = [torch.randn(n, module.input_size, generator=generator) for n in lengths]
    states = module.num_layers * (1 + module.bidirectional)
    h, c = (torch.randn(states, len(lengths), n, generator=generator) for n in (module.proj_size or units, units))
    return module, sequences, (h, c) if kind == "LSTM" else h


def cells_of(module):
    """Return the int8 cells of an LSTM or a GRU without projection, one for each layer and direction."""
    cells = []
    for i in range(module.num_layers * (1 + module.bidirectional)):
        suffix = f"_l{i // (1 + module.bidirectional)}" + "_reverse" * (module.bidirectional and i % 2)
        weights = {name.removesuffix(suffix): weight for name, weight in module.named_parameters()}
        weights = {name: weight for name, weight in weights.items() if "_l" not in name}
        cell = getattr(nn, f"{module.mode}Cell")(weights["weight_ih"].shape[1], module.hidden_size, bias=module.bias)
        cell.load_state_dict(weights)
        cells.append(quantized(cell))
    return cells


def loop(module, sequence, states):
    """Return the output and the states of one column, computed by cells, one step at a time."""
    directions, after, x = 1 + module.bidirectional, [], sequence
    for i, (cell, state) in enumerate(zip(cells_of(module), states, strict=True)):
        if i % directions == 0:
            outputs = []
        steps = []
        for step in x if i % directions == 0 else x.flip(0):
            state = cell(step, state)
            steps.append(state[0] if module.mode == "LSTM" else state)
        outputs.append(torch.stack(steps if i % directions == 0 else steps[::-1]))
        after.append(state)
        if len(outputs) == directions:
            x = torch.cat(outputs, 1)
    return x, after


def columns_of(module, hx, column):
    """Return the state of a column, by layer and direction."""
    if module.mode == "GRU":
        return list(hx[:, column])
    return list(zip(hx[0][:, column], hx[1][:, column], strict=True))


@settings(max_examples=15)
@given(case=recurrent_modules().filter(lambda case: not case[0].proj_size))
def test_recurrent_module_returns_the_bits_of_its_cells(case):
    module, sequences, hx = case
    packed, after = quantized(module)(pack_sequence(sequences), hx)
    output, lengths = pad_packed_sequence(packed)
    for column, sequence in enumerate(sequences):
        expected, states = loop(module, sequence, columns_of(module, hx, column))
        assert torch.equal(output[: lengths[column], column], expected)
        for found, state in zip(columns_of(module, after, column), states, strict=True):
            pairs = zip(found, state, strict=True) if module.mode == "LSTM" else [(found, state)]
            assert all(torch.equal(a, b) for a, b in pairs)


@settings(max_examples=15)
@given(case=recurrent_modules())
def test_output_and_state_are_near_those_of_torch(case):
    module, sequences, hx = case
    packed = pack_sequence(sequences)
    with torch.no_grad():
        expected, expected_state = module(packed, hx)
    found, state = quantized(module)(packed, hx)
    assert (found.data - expected.data).abs().max() < 0.1 * max(1, expected.data.abs().max().item())
    for a, b in zip(state, expected_state, strict=True) if module.mode == "LSTM" else [(state, expected_state)]:
        assert a.shape == b.shape
        assert (a - b).abs().max() < 0.1 * max(1, b.abs().max().item())


def equal(a, b):
    """Return whether two outputs, with their states, are the same bits."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return all(equal(x, y) for x, y in zip(a, b, strict=True) if x is not None)


@settings(max_examples=15)
@given(case=recurrent_modules(), data=st.data())
def test_columns_alone_padded_or_packed_in_any_order_give_the_same_bits(case, data):
    module, sequences, hx = case
    model, of_columns = quantized(module), 0 if module.batch_first else 1
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    order = torch.tensor(data.draw(st.permutations(range(len(sequences)))))
    padded = nn.utils.rnn.pad_sequence([sequences[i] for i in order], batch_first=module.batch_first)
    packed = pack_padded_sequence(padded, lengths[order], batch_first=module.batch_first, enforce_sorted=False)
    output, after = model(packed, select(hx, order))
    output, _ = pad_packed_sequence(output, batch_first=module.batch_first)
    equally_long, after_equally_long = model(padded, select(hx, order))
    for place, column in enumerate(order.tolist()):
        alone = model(sequences[column], select(hx, column))
        assert equal((output.select(of_columns, place)[: lengths[column]], select(after, place)), alone)
        if lengths[column] == lengths.max():
            assert equal((equally_long.select(of_columns, place), select(after_equally_long, place)), alone)


def select(hx, columns):
    """Return the state of some columns, or of one without its dimension."""
    return tuple(select(state, columns) for state in hx) if isinstance(hx, tuple) else hx[:, columns]


MODULES = [
    (nn.LSTM(6, 5, 2, bidirectional=True), (7, 3, 6)),
    (nn.LSTM(6, 5, proj_size=2, batch_first=True), (7, 3, 6)),
    (nn.GRU(6, 5, 2), (7, 3, 6)),
    (nn.LSTMCell(6, 5), (3, 6)),
    (nn.LSTMCell(6, 5), (6,)),
    (nn.GRUCell(6, 5), (3, 6)),
    (nn.Linear(6, 5), (7, 3, 6)),
    (nn.Linear(6, 5), (6,)),
]
modules = pytest.mark.parametrize(("module", "shape"), MODULES, ids=lambda case: getattr(type(case), "__name__", None))


def tensors(output):
    """Return the tensors in an output and its state."""
    return [output] if isinstance(output, torch.Tensor) else [x for part in output for x in tensors(part)]


@modules
@torch.no_grad()
def test_shapes_and_strides_are_those_of_torch(module, shape):
    x = torch.randn(shape)
    for found, expected in zip(tensors(quantized(module)(x)), tensors(module(x)), strict=True):
        assert (found.shape, found.stride(), found.dtype) == (expected.shape, expected.stride(), expected.dtype)


@modules
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_and_returned(module, shape, dtype):
    x, model = torch.randn(shape).to(dtype), quantized(module)
    for found, expected in zip(tensors(model(x)), tensors(model(x.float())), strict=True):
        assert torch.equal(found, expected.to(dtype))


@modules
def test_states_keep_their_own_dtype(module, shape):
    if isinstance(module, nn.Linear):
        pytest.skip("has no state")
    model, x = quantized(module), torch.randn(shape)
    state = model(x) if "Cell" in type(module).__name__ else model(x)[1]
    output = model(x.bfloat16(), state)
    states = output if "Cell" in type(module).__name__ else output[1]
    assert {state.dtype for state in tensors(states)} == {torch.float32}


@modules
def test_inputs_in_any_memory_layout_give_the_same_bits(module, shape):
    x, model = torch.randn(shape), quantized(module)
    strided = torch.empty(*shape[:-1], 2 * shape[-1])[..., ::2].copy_(x)
    expanded = x[:1].expand(shape) if len(shape) > 1 else x
    assert equal(tensors(model(strided)), tensors(model(x)))
    assert equal(tensors(model(expanded)), tensors(model(expanded.contiguous())))


@modules
def test_a_state_of_zeros_is_the_default(module, shape):
    if isinstance(module, nn.Linear):
        pytest.skip("has no state")
    model, x = quantized(module), torch.randn(shape)
    is_cell = "Cell" in type(module).__name__
    state = model(x) if is_cell else model(x)[1]
    zeros = tuple(map(torch.zeros_like, state)) if isinstance(state, tuple) else torch.zeros_like(state)
    assert equal(tensors(model(x)), tensors(model(x, zeros)))


@pytest.mark.parametrize("shape", [(4, 0, 6), (0, 6), (3, 0, 6)])
def test_no_rows_and_no_columns_give_empty_outputs(shape):
    assert quantized(nn.Linear(6, 5))(torch.zeros(shape)).shape == (*shape[:-1], 5)
    if len(shape) == 3:
        output, (h, c) = quantized(nn.LSTM(6, 5, bidirectional=True))(torch.zeros(shape))
        assert (output.shape, h.shape, c.shape) == ((shape[0], 0, 10), (2, 0, 5), (2, 0, 5))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_rows_that_are_not_finite_give_nan_and_leave_others_alone(value):
    x = torch.randn(5, 3, 6)
    for module in (nn.LSTM(6, 4), nn.GRU(6, 4)):
        model, broken = quantized(module), x.clone()
        broken[2, 1, 3] = value
        output, expected = model(broken)[0], model(x)[0]
        assert output[2:, 1].isnan().all()
        assert torch.equal(output[:2], expected[:2])
        assert torch.equal(output[:, [0, 2]], expected[:, [0, 2]])


def test_embedding_returns_its_rows():
    module = nn.Embedding(20, 7, padding_idx=3)
    model, ids = quantized(module), torch.randint(20, (4, 3))
    assert model.padding_idx == 3
    assert (model(ids) - module(ids)).abs().max() <= 0.51 * module.weight.abs().max() / 127
    assert torch.equal(model(ids.int()), model(ids))
    assert torch.equal(model(ids)[1, 2], model(ids[1, 2]))
    assert model(torch.tensor([3])).eq(0).all()
    for wrong in (-1, 20):
        with pytest.raises(IndexError, match="out of range"):
            model(torch.tensor([wrong]))


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (nn.Linear(6, 5), [torch.zeros(3, 7)], "input: expected 6 numbers in the last dimension, found shape (3, 7)"),
        (nn.Linear(6, 5), [torch.zeros(3, 6, dtype=torch.float64)], "found torch.float64"),
        (nn.Linear(6, 5), [torch.zeros(3, 6, dtype=torch.int64)], "expected float32, float16 or bfloat16"),
        (nn.LSTM(6, 5), [torch.zeros(1, 2, 3, 6)], "input: expected 2 or 3 dimensions, found shape (1, 2, 3, 6)"),
        (nn.GRU(6, 5), [torch.zeros(0, 3, 6)], "input: expected at least one step, found none"),
        (nn.GRU(6, 5), [torch.zeros(4, 3, 6), torch.zeros(1, 2, 5)], "h_0: expected shape (1, 3, 5), found (1, 2, 5)"),
        (nn.LSTM(6, 5), [torch.zeros(4, 3, 6), (torch.zeros(1, 3, 5), torch.zeros(3, 5))], "c_0: expected shape"),
        (nn.GRU(6, 5), [pack_sequence([torch.zeros(4, 6)]), torch.zeros(1, 2, 5)], "expected 1 columns, found 2"),
        (nn.LSTMCell(6, 5), [torch.zeros(2, 2, 6)], "input: expected 1 or 2 dimensions"),
        (nn.GRUCell(6, 5), [torch.zeros(2, 6), torch.zeros(5)], "hx: expected shape (2, 5), found (5,)"),
    ],
)
def test_wrong_inputs_are_refused_in_one_line(module, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        quantized(module)(*arguments)
    assert "\n" not in str(error.value)


@modules
def test_inputs_that_need_gradients_are_refused(module, shape):
    model, x = quantized(module), torch.randn(shape, requires_grad=True)
    with pytest.raises(QuantizationError, match=r"no gradients, and an input needs them: use torch\.no_grad"):
        model(x)
    with torch.no_grad():
        assert equal(tensors(model(x)), tensors(model(x.detach())))


@pytest.mark.parametrize("module", [nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True, dropout=0.3), nn.GRU(6, 5)])
def test_attributes_are_those_of_torch(module):
    model = quantized(module)
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
    assert all(getattr(model, name) == getattr(module, name) for name in (*names, "mode"))
    assert model.flatten_parameters() is None
    assert next(model.parameters()).new_zeros(1).dtype == torch.float32
