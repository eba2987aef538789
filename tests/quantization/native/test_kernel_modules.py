"""The law of the kernels of modules: everywhere, and with any number of threads, they return the reference's bits."""

from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from lstmq import quantize
from lstmq.quantization.native import library
from lstmq.quantization.native.library import ISA_VARIABLE, REFERENCE
from strategies import seeds

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
# The fixtures select a kernel; examples do not change it.
one_kernel = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
widths = st.integers(1, 40) | st.sampled_from([63, 64, 65, 128, 130])
extremes = st.sampled_from(["none", "zero", "a row of zeros", "one huge", "all large", "tiny"])


def change(module, extreme, generator):
    """Make some weights extreme."""
    with torch.no_grad():
        weights = [*module.parameters()]
        weight = weights[int(torch.randint(len(weights), (), generator=generator))]
        place = int(torch.randint(weight.numel(), (), generator=generator))
        match extreme:
            case "zero":
                weight.zero_()
            case "a row of zeros":
                weight[0] = 0
            case "one huge":
                weight.view(-1)[place] = 1e6
            case "all large":
                weight.mul_(1e3)
            case "tiny":
                weight.mul_(1e-36)
    return quantize(module, "int8-native")


def tensors(output):
    """Return the tensors in an output and its state. A packed sequence may have ``None`` instead of an order."""
    if output is None:
        return []
    return [output] if isinstance(output, torch.Tensor) else [x for part in output for x in tensors(part)]


def check_bits(model, *arguments):
    """Check that a kernel returns the bits of the reference, with one thread and with two."""
    with mock.patch.dict("os.environ", {ISA_VARIABLE: REFERENCE}):
        expected = tensors(model(*arguments))
    assert not any(x.isnan().any() for x in expected if x.is_floating_point())
    for threads in (1, 2):
        with_threads(threads, lambda: check_equal(tensors(model(*arguments)), expected))


def check_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def with_threads(threads, function):
    torch.set_num_threads(threads)
    try:
        return function()
    finally:
        torch.set_num_threads(1)


@st.composite
def calls(draw):
    """Draw a recurrent module in int8, some with extreme weights; and sequences and a state, or none, for it."""
    generator = torch.Generator().manual_seed(draw(seeds))
    kind, units, width = draw(st.sampled_from(["LSTM", "GRU"])), draw(widths), draw(widths)
    options = {name: draw(st.booleans()) for name in ("bias", "bidirectional")}
    options["num_layers"] = draw(st.integers(1, 3))
    if kind == "LSTM" and units > 1 and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, units - 1))
    module = getattr(nn, kind)(width, units, **options)
    for weight in module.parameters():
        nn.init.normal_(weight, 0, 2 * units**-0.5, generator=generator)
    columns = draw(st.integers(1, 4) | st.sampled_from([7, 17, 35]))  # AMX takes at least 6 rows, and 16 at a time
    longest = draw(st.integers(1, 9 if columns < 7 else 3))
    lengths = torch.randint(1, longest + 1, (columns,), generator=generator).sort(descending=True).values
    scale = draw(st.sampled_from([0.0, 1e-33, 1.0, 30.0]))
    if draw(st.booleans()):
        x = pack_sequence([torch.randn(int(n), width, generator=generator) * scale for n in lengths])
    else:
        x = torch.randn(longest, columns, width, generator=generator) * scale
    states = options["num_layers"] * (1 + options["bidirectional"])
    h, c = (torch.randn(states, columns, n, generator=generator) * scale for n in (module.proj_size or units, units))
    hx = draw(st.sampled_from([None, (h, c) if kind == "LSTM" else h]))
    return change(module, draw(extremes), generator), x, hx


@one_kernel
@given(call=calls())
def test_recurrent_kernels_return_the_bits_of_the_reference(isa, call):
    check_bits(*call)


@one_kernel
@given(kind=st.sampled_from(["LSTMCell", "GRUCell"]), width=widths, units=widths, bias=st.booleans(), data=st.data())
def test_cell_kernels_return_the_bits_of_the_reference(isa, kind, width, units, bias, data):
    generator = torch.Generator().manual_seed(data.draw(seeds))
    columns = data.draw(st.integers(1, 4) | st.sampled_from([7, 35]))
    cell = change(getattr(nn, kind)(width, units, bias=bias), data.draw(extremes), generator)
    x, h, c = (torch.randn(columns, n, generator=generator) for n in (width, units, units))
    check_bits(cell, x, (h, c) if kind == "LSTMCell" else h)


@one_kernel
@given(
    rows=st.integers(1, 5) | st.sampled_from([17, 40]), width=widths, height=widths, bias=st.booleans(), data=st.data()
)
def test_linear_kernels_return_the_bits_of_the_reference(isa, rows, width, height, bias, data):
    generator = torch.Generator().manual_seed(data.draw(seeds))
    model = change(nn.Linear(width, height, bias=bias), data.draw(extremes), generator)
    check_bits(
        model, torch.randn(rows, width, generator=generator) * data.draw(st.sampled_from([0.0, 1e-33, 1.0, 1e30]))
    )


@pytest.mark.parametrize(
    "module", [nn.LSTM(128, 256, 2, bidirectional=True), nn.GRU(80, 512), nn.LSTM(64, 300, proj_size=70)]
)
@pytest.mark.parametrize("columns", [1, 8])
def test_kernels_return_the_bits_of_the_reference_at_the_widths_of_users(isa, module, columns):
    check_bits(quantize(module, "int8-native"), torch.randn(5, columns, module.input_size))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_kernels_return_nan_for_rows_that_are_not_finite(isa, value):
    for module in (nn.LSTM(70, 9, bidirectional=True), nn.GRU(70, 9)):
        model, x = quantize(module, "int8-native"), torch.randn(6, 3, 70)
        x[2, 1, 5] = value
        with mock.patch.dict("os.environ", {ISA_VARIABLE: REFERENCE}):
            expected = tensors(model(x))
        for found, other in zip(tensors(model(x)), expected, strict=True):
            assert found.isnan().any()
            assert torch.allclose(found, other, rtol=0, atol=0, equal_nan=True)
    linear, x = quantize(nn.Linear(70, 9), "int8-native"), torch.randn(6, 70)
    x[3, 69] = value
    assert linear(x)[3].isnan().all()
    assert not linear(x)[[0, 1, 2, 4, 5]].isnan().any()


def test_many_python_threads_may_call_one_model(isa):
    model = quantize(nn.GRU(40, 70, 2, bidirectional=True), "int8-native")
    inputs = [torch.randn(n, 3, 40) for n in range(1, 25)]
    alone = [tensors(model(x)) for x in inputs]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            for found, expected in zip(threads.map(lambda x: tensors(model(x)), inputs), alone, strict=True):
                check_equal(found, expected)


@pytest.mark.parametrize("change", [{"dtype": torch.bfloat16}, {"dtype": torch.float64}, {"device": "meta"}])
def test_torch_defaults_do_not_change_the_bits(isa, change):
    model = quantize(nn.Sequential(nn.LSTM(6, 5)), "int8-native")
    cell, x = quantize(nn.GRUCell(6, 5), "int8-native"), torch.randn(4, 3, 6)
    expected = tensors(model(x)), cell(x[0])
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(change.get("dtype", before))
        with torch.device(change.get("device", "cpu")):
            check_equal(tensors(model(x)), expected[0])
            assert torch.equal(cell(x[0]), expected[1])
    finally:
        torch.set_default_dtype(before)


BREAKAGES = {
    "resized": lambda cell: cell.int8_hh.resize_(3, 16),
    "set": lambda cell: cell.scale_ih.set_(torch.zeros(3)),
    "other dtype": lambda cell: cell.double(),
    "on another device": lambda cell: cell.to("meta"),
    "another shape": lambda cell: setattr(cell, "int8_ih", torch.zeros(15, 7, dtype=torch.int8)),
    "a smaller storage": lambda cell: cell.int8_ih.untyped_storage().resize_(0),
    "-128": lambda cell: cell.int8_ih.fill_(-128),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.parametrize("packed", [False, True])
def test_weights_that_do_not_fit_are_refused_in_one_line(isa, breakage, packed):
    cell, x = quantize(nn.GRUCell(6, 5), "int8-native"), torch.randn(2, 6)
    before = cell(x) if packed else None
    BREAKAGES[breakage](cell)
    try:
        after = cell(x)
    except (ValueError, RuntimeError) as error:
        assert "\n" not in str(error)
    else:  # the change is one that torch does not count, and the packed weights are as before
        assert packed
        assert breakage == "a smaller storage"
        assert torch.equal(after, before)


@pytest.mark.parametrize("sizes", [[1, 2], [2, 2], [2, 0, 1], [2, -1, 2], [2], [4]])
def test_batch_sizes_that_increase_or_do_not_fit_the_rows_are_refused(isa, sizes):
    """A ``PackedSequence`` that a user made by hand may have such sizes. The input has three rows."""
    quantized = quantize(nn.GRU(4, 4), "int8-native")
    packed = PackedSequence(torch.rand(3, 4), torch.tensor(sizes))
    with pytest.raises(ValueError, match="batch_sizes: expected numbers that do not increase and add up to 3"):
        quantized(packed)


@pytest.mark.slow
def test_tasks_of_threads_that_cannot_start_are_done_all_the_same(compile_changed, monkeypatch):
    """The system may refuse to start a thread. Here, it refuses every second one."""
    start = "is_started[i] = pthread_create("
    kernels = compile_changed([("threads.c", start, start.replace("pthread", "i % 2 == 0 && pthread"))])
    module, x = quantize(nn.LSTM(64, 256), "int8-native"), torch.rand(20, 16, 64)
    expected, _ = module(x)
    monkeypatch.setattr(library, "load_library", lambda: kernels)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert torch.equal(module(x)[0], expected)
    finally:
        torch.set_num_threads(threads)
