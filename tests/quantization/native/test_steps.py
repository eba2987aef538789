"""The laws of a cell's short path, which most steps take: plain tensors of float32, with a state, in eager mode.

1. It returns the reference's bits, in tensors that nobody else has, and leaves its arguments as they were.
2. It sees weights that changed between two steps, other kernels, and other numbers of columns and threads.
3. Everything else takes the long path, with the same bits or the same errors.
"""

import copy
import pickle

import pytest
import torch
from torch import nn

from lstmq import QuantizationError, quantize
from lstmq.quantization.native.library import ISA_VARIABLE, REFERENCE, available_isas
from lstmq.quantization.native.packed_modules import PackedRecurrent

KINDS = [nn.LSTMCell, nn.GRUCell]


def make(kind, seed=0):
    torch.manual_seed(seed)
    return quantize(kind(6, 5), "int8-native")


def arguments(kind, columns=3):
    h, c = torch.randn(columns, 5), torch.randn(columns, 5)
    return torch.randn(columns, 6), (h, c) if kind is nn.LSTMCell else h


def states(output):
    return output if isinstance(output, tuple) else (output,)


def reference(cell, *arguments):
    """Return the states after a step without kernels, which a copy takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ISA_VARIABLE, REFERENCE)
        return states(copy.deepcopy(cell)(*arguments))


def check(cell, *arguments):
    """Check the bits of a step, and return the states after it."""
    after = states(cell(*arguments))
    for found, expected in zip(after, reference(cell, *arguments), strict=True):
        assert torch.equal(found, expected)
    return after


@pytest.fixture
def steps(monkeypatch):
    """The numbers of columns of the steps that took the short path."""
    taken, run_step = [], PackedRecurrent.run_step
    monkeypatch.setattr(
        PackedRecurrent,
        "run_step",
        lambda self, kernel, x, *rest: taken.append(len(x)) or run_step(self, kernel, x, *rest),
    )
    return taken


@pytest.mark.parametrize("kind", KINDS)
def test_steps_return_new_tensors_and_leave_their_arguments(isa, steps, kind):
    cell, (x, hx) = make(kind), arguments(kind)
    before = [tensor.clone() for tensor in (x, *states(hx))]
    first, again = check(cell, x, hx), states(cell(x, hx))
    assert steps == [3, 3]
    assert all(map(torch.equal, (x, *states(hx)), before))
    memory = {tensor.untyped_storage().data_ptr() for tensor in (x, *states(hx), *first, *again)}
    assert len(memory) == 1 + 3 * len(first)
    assert all(tensor.is_contiguous() and tensor.untyped_storage().nbytes() == 60 for tensor in first)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_take_other_numbers_of_columns_and_threads(isa, steps, kind):
    cell = make(kind)
    try:
        for columns, threads in ((1, 1), (4, 1), (4, 2), (1, 2), (2, 1)):
            torch.set_num_threads(threads)
            check(cell, *arguments(kind, columns))
            assert cell._packed.packed._step.struct.threads == threads  # the bits do not show it
    finally:
        torch.set_num_threads(1)
    assert steps == [1, 4, 4, 1, 2]


CHANGES = {
    "in place": lambda cell: cell.int8_hh.neg_(),
    "by data": lambda cell: setattr(cell.scale_ih, "data", cell.scale_ih * 2),
    "replaced": lambda cell: setattr(cell, "int8_ih", cell.int8_ih.neg()),
    "replaced by a view": lambda cell: setattr(
        cell, "scale_hh", nn.Parameter(cell.scale_hh.detach()[:1].expand(20), False)
    ),
    "by torch's name": lambda cell: setattr(cell, "weight_hh", torch.randn(20, 5)),
    "loaded": lambda cell: cell.load_state_dict(make(nn.LSTMCell, seed=1).state_dict()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("in_inference_mode", [False, True])
def test_steps_see_changed_weights(isa, steps, change, in_inference_mode):
    if in_inference_mode and change in ("in place", "loaded"):
        pytest.skip("torch refuses or does not count it")
    with torch.inference_mode(in_inference_mode):
        cell = make(nn.LSTMCell)
        before = check(cell, *arguments(nn.LSTMCell))
        torch.manual_seed(0)
        cell_arguments = arguments(nn.LSTMCell)
        before = check(cell, *cell_arguments)
        CHANGES[change](cell)
        after = check(cell, *cell_arguments)
    assert not torch.equal(after[0], before[0])
    assert steps == [3, 3, 3]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])  # noqa: S301 # ours
def test_copies_of_a_cell_that_took_steps_take_their_own(isa, duplicate):
    cell, given = make(nn.GRUCell), arguments(nn.GRUCell)
    before = cell(*given)
    other = duplicate(cell)
    other.int8_hh.zero_()
    assert torch.equal(cell(*given), before)
    assert not torch.equal(check(other, *given)[0], before)


def test_steps_use_the_kernel_that_the_variable_names(monkeypatch):
    cell, given = make(nn.LSTMCell), arguments(nn.LSTMCell)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ISA_VARIABLE, "sse9")
        with pytest.raises(ValueError, match="LSTMQ_ISA: expected one of"):
            cell(*given)
    for isa in available_isas():
        monkeypatch.setenv(ISA_VARIABLE, isa)
        check(cell, *given)


UNUSUAL = {
    "lazily negated": lambda x: torch.complex(x, x).conj().imag,
    "expanded": lambda x: x[:1].expand_as(x),
    "transposed": lambda x: x.T.contiguous().T,
    "a parameter": lambda x: nn.Parameter(x, requires_grad=False),
    "in half precision": torch.Tensor.bfloat16,
    "sparse": torch.Tensor.to_sparse,
    "on another device": lambda x: x.to("meta"),
    "of another shape": lambda x: x[:1],
    "with one dimension": lambda x: x[0],
    "empty": lambda x: x[0, :0],
}


@pytest.mark.parametrize("unusual", UNUSUAL)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_unusual_arguments_give_the_bits_of_the_reference_or_one_line(isa, unusual, place):
    x, (h, c) = arguments(nn.LSTMCell)
    given = [x, h, c]
    given[place] = UNUSUAL[unusual](given[place])
    cell = make(nn.LSTMCell)
    try:
        after = cell(given[0], tuple(given[1:]))
    except (ValueError, RuntimeError, NotImplementedError) as error:
        assert "\n" not in str(error)
        assert unusual in ("sparse", "on another device", "of another shape", "with one dimension", "empty")
    else:
        assert all(map(torch.equal, after, reference(cell, given[0], tuple(given[1:]))))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_steps_refuse_arguments_that_need_gradients(isa, place):
    x, (h, c) = arguments(nn.LSTMCell)
    given, cell = [x, h, c], make(nn.LSTMCell)
    given[place].requires_grad_()
    with pytest.raises(QuantizationError, match="int8-native computes no gradients"):
        cell(given[0], tuple(given[1:]))
    with torch.no_grad():
        check(cell, given[0], tuple(given[1:]))


def test_only_cells_take_steps():
    module = quantize(nn.LSTM(6, 5, num_layers=2), "int8-native")
    packed = PackedRecurrent("LSTM", module._layout.weights(module.tensors()))
    kernel = None, 0
    with pytest.raises(ValueError, match="expected the weights of a cell"):
        packed.run_step(kernel, torch.zeros(2, 6), torch.zeros(2, 5), torch.zeros(2, 5))
