"""Laws of streams: windows tile them, targets stay with their inputs, a loss is a sum over places."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lstmq import Stream, batchify, get_batch, next_words


@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 70))
def test_the_windows_of_a_text_are_those_of_get_batch(steps, bsz, bptt):
    source = batchify(torch.arange(steps * bsz), bsz)
    stream = next_words(source)
    assert (len(stream), stream.tokens) == (steps - 1, (steps - 1) * bsz)
    pairs = [get_batch(source, i, bptt) for i in range(0, steps - 1, bptt)]
    for (data, targets), window in zip(pairs, stream.windows(bptt), strict=True):
        assert torch.equal(window.inputs, data)
        assert torch.equal(window.targets.flatten(), targets)


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 3), st.integers(1, 40), st.booleans())
def test_the_windows_tile_the_stream_and_keep_its_loss(steps, bsz, width, bptt, own):
    shape = (steps, bsz, *([width + 1] * bool(width)))
    inputs = torch.arange(torch.Size(shape).numel()).view(shape)
    stream = Stream(inputs=inputs, targets=inputs + 1, loss=F.mse_loss if own else None)
    windows = [*stream.windows(bptt)]
    assert torch.equal(torch.cat([window.inputs for window in windows]), inputs)
    assert all(torch.equal(window.targets, window.inputs + 1) for window in windows)
    assert {window.loss for window in windows} == {stream.loss}
    assert [len(window) for window in windows[:-1]] == [bptt] * (len(windows) - 1)
    assert sum(window.tokens for window in windows) == stream.tokens == steps * bsz


@given(st.integers(1, 30), st.integers(0, 40), st.integers(1, 40))
def test_a_part_is_what_there_is_of_it(steps, first, length):
    stream = Stream(inputs=torch.arange(steps).view(-1, 1), targets=torch.arange(steps).view(-1, 1))
    if first >= steps:
        with pytest.raises(ValueError, match=r"found \(0, 1\)"):
            stream.slice(first, length)
        return
    assert stream.slice(first, length).inputs.flatten().tolist() == [*range(steps)][first : first + length]


@given(st.integers(1, 9), st.integers(1, 3), st.integers(2, 7), st.sampled_from([torch.float32, torch.bfloat16]))
def test_without_a_loss_of_its_own_it_is_the_summed_cross_entropy_of_the_last_dimension(steps, bsz, classes, dtype):
    generator = torch.Generator().manual_seed(steps)
    output = torch.randn(steps, bsz, classes, generator=generator).to(dtype)
    targets = torch.randint(classes, (steps, bsz), generator=generator)
    total = Stream(inputs=targets, targets=targets).summed_loss(output)
    probabilities = output.double().softmax(-1).gather(-1, targets[..., None])
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(-probabilities.log().sum().item(), rel=1e-5, abs=1e-6)


def test_a_loss_of_its_own_is_given_float32_and_the_targets():
    inputs, targets = torch.zeros(3, 2), torch.ones(3, 2, 4)
    stream = Stream(inputs=inputs, targets=targets, loss=lambda output, goal: ((output - goal) ** 2).sum())
    output = torch.full((3, 2, 4), 3.0, dtype=torch.bfloat16)
    assert stream.summed_loss(output).item() == 3 * 2 * 4 * 2**2


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3, 1), (3,)), ((3, 1), (2, 1)), ((3, 2), (3, 1)), ((0, 1), (0, 1))])
def test_an_input_without_a_target_is_refused(shapes):
    inputs, targets = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match=r"expected inputs and targets of shape \(steps, bsz, \.\.\.\), found"):
        Stream(inputs=inputs, targets=targets)


@pytest.mark.parametrize("bptt", [0, -1])
def test_a_window_of_no_length_is_refused(bptt):
    with pytest.raises(ValueError, match=f"at least 1 step, found {bptt}"):
        next_words(batchify(torch.arange(10), 1)).windows(bptt)


def test_next_words_need_a_target_and_columns():
    for steps, bsz in ((0, 4), (1, 4), (9, 0)):
        with pytest.raises(ValueError, match=rf"a source of shape \({steps}, {bsz}\) has no target"):
            next_words(torch.zeros(steps, bsz, dtype=torch.int64))
    for dtype in (torch.int32, torch.float32):
        with pytest.raises(ValueError, match=f"expected int64 ids, found {dtype}"):
            next_words(torch.zeros(9, 4, dtype=dtype))
    with pytest.raises(ValueError, match=r"shape \(steps, bsz\)"):
        next_words(torch.arange(10))
