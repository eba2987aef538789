"""The law of published models: ``compare`` gives every model's loss as a plain loop in torch does, or one line."""

import random

import pytest
import torch

from lstmq import SCHEMES, compare, quantize
from stand_in_errors import errors, outputs
from stand_ins import MAKERS, make_case

BPTT = 5


def parts(tree, batch_first, first):
    """Return one window of tensors in tuples and dictionaries, without the package's code."""
    if isinstance(tree, dict):
        return {name: parts(value, batch_first, first) for name, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(parts(value, batch_first, first) for value in tree)
    return tree[:, first : first + BPTT] if batch_first else tree[first : first + BPTT]


def to_bfloat16(tree):
    if isinstance(tree, dict):
        return {name: to_bfloat16(value) for name, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(to_bfloat16, tree))
    return tree.bfloat16() if isinstance(tree, torch.Tensor) and tree.is_floating_point() else tree


@torch.no_grad()
def plain_loss(case, model, scheme):
    """Return the mean loss over all targets. Each window begins with the random numbers of its own number."""
    batch_first = case.stream.get("batch_first", False)
    cast = to_bfloat16 if scheme == "bf16" else lambda tree: tree
    first = case.inputs["text" if "text" in case.inputs else "sound"] if isinstance(case.inputs, dict) else case.inputs
    first = first[0] if isinstance(first, tuple) else first
    state, total, count = cast(case.first_state()), 0.0, 0
    for number, start in enumerate(range(0, first.shape[1 if batch_first else 0], BPTT)):
        torch.manual_seed(number)
        random.seed(number)
        inputs, targets = (parts(tree, batch_first, start) for tree in (case.inputs, case.targets))
        loss, targets, state = case.plain(model, cast(inputs), targets, state)
        total, count = total + loss.item(), count + targets
    return total / count


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_compare_gives_the_loss_of_a_plain_loop_under_every_scheme_or_one_line(name):
    case = make_case(name)
    workload = case.workload()
    rows = compare(workload, [*SCHEMES], BPTT)
    assert len(rows) >= 4, rows.left_out
    for row in rows:
        model = case.model if row.name == "float32" else quantize(case.model, row.name)
        expected = plain_loss(case, model, row.name)
        # The plain loop computes the loss of a bfloat16 output in bfloat16.
        rounding = {"rel": 0.01} if row.name == "bf16" else {"abs": 5e-5}
        assert row.loss == pytest.approx(expected, **rounding), row.name
    assert rows.left_out.keys() == SCHEMES.keys() - {row.name for row in rows}
    assert all("\n" not in reason for reason in rows.left_out.values())
    assert {"int8", "int8-native"} <= {row.name for row in rows}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_int8_native_is_nearer_to_float32_than_torch_ao_is(name):
    found = errors(name, full=False)
    assert 0 < found["int8-native"] <= found["int8"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.library, "custom_op"), reason="torch before 2.4 has no operators in Python")
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace the builtin:UserWarning")
@pytest.mark.parametrize("name", MAKERS)
def test_compiled_model_in_int8_gives_the_bits_of_eager_mode(name):
    case = make_case(name)
    quantized = quantize(case.model.eval(), "int8-native")
    expected = outputs(case, quantized)
    torch._dynamo.reset()
    compiled = torch.compile(quantized, backend="aot_eager")
    assert torch.equal(outputs(case, compiled), expected)
