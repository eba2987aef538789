"""Laws of streams.

1. The windows of a stream tile it, and keep each target with its input.
2. The loss of a stream is a sum over its targets.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lstmq import Stream, batchify, get_batch, next_words


@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 70))
def test_windows_of_next_words_are_those_of_get_batch(steps, bsz, bptt):
    source = batchify(torch.arange(steps * bsz), bsz)
    stream = next_words(source)
    assert (len(stream), stream.tokens) == (steps - 1, (steps - 1) * bsz)
    pairs = [get_batch(source, i, bptt) for i in range(0, steps - 1, bptt)]
    for (data, targets), window in zip(pairs, stream.windows(bptt), strict=True):
        assert torch.equal(window.inputs, data)
        assert torch.equal(window.targets.flatten(), targets)


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 3), st.integers(1, 40), st.booleans())
def test_windows_tile_the_stream_and_keep_its_loss(steps, bsz, width, bptt, has_loss):
    shape = (steps, bsz, *([width + 1] * bool(width)))
    inputs = torch.arange(torch.Size(shape).numel()).view(shape)
    stream = Stream(inputs=inputs, targets=inputs + 1, loss=F.mse_loss if has_loss else None)
    windows = [*stream.windows(bptt)]
    assert torch.equal(torch.cat([window.inputs for window in windows]), inputs)
    assert all(torch.equal(window.targets, window.inputs + 1) for window in windows)
    assert {window.loss for window in windows} == {stream.loss}
    assert [len(window) for window in windows[:-1]] == [bptt] * (len(windows) - 1)
    assert sum(window.tokens for window in windows) == stream.tokens == steps * bsz


@given(st.integers(1, 30), st.integers(0, 40), st.integers(1, 40))
def test_slice_returns_the_steps_that_are_left(steps, first, length):
    stream = Stream(inputs=torch.arange(steps).view(-1, 1), targets=torch.arange(steps).view(-1, 1))
    if first >= steps:
        with pytest.raises(ValueError, match="found no step"):
            stream.slice(first, length)
        return
    assert stream.slice(first, length).inputs.flatten().tolist() == [*range(steps)][first : first + length]


@given(st.integers(1, 9), st.integers(1, 3), st.integers(2, 7), st.sampled_from([torch.float32, torch.bfloat16]))
def test_summed_loss_is_the_cross_entropy_by_default(steps, bsz, classes, dtype):
    generator = torch.Generator().manual_seed(steps)
    output = torch.randn(steps, bsz, classes, generator=generator).to(dtype)
    targets = torch.randint(classes, (steps, bsz), generator=generator)
    total = Stream(inputs=targets, targets=targets).summed_loss(output)
    probabilities = output.double().softmax(-1).gather(-1, targets[..., None])
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(-probabilities.log().sum().item(), rel=1e-5, abs=1e-6)


def test_summed_loss_passes_float32_and_the_targets_to_a_given_loss():
    inputs, targets = torch.zeros(3, 2), torch.ones(3, 2, 4)
    stream = Stream(inputs=inputs, targets=targets, loss=lambda output, goal: ((output - goal) ** 2).sum())
    output = torch.full((3, 2, 4), 3.0, dtype=torch.bfloat16)
    assert stream.summed_loss(output).dtype == torch.float32
    assert stream.summed_loss(output).item() == 3 * 2 * 4 * 2**2


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3, 1), (3,)), ((3, 1), (2, 1)), ((3, 2), (3, 1)), ((0, 1), (0, 1))])
def test_stream_refuses_inputs_without_targets(shapes):
    inputs, targets = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match=r"expected inputs and targets of shape \(steps, bsz, \.\.\.\), found"):
        Stream(inputs=inputs, targets=targets)


@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 25), st.booleans())
def test_windows_cut_tuples_and_dictionaries_along_the_steps(steps, bsz, bptt, batch_first):
    ids = torch.arange(steps * bsz).view(steps, bsz)
    more = ids[..., None].float().expand(steps, bsz, 3)
    inputs = {"ids": ids, "more": (more, ids)}
    if batch_first:
        inputs = {"ids": ids.T, "more": (more.transpose(0, 1), ids.T)}
    stream = Stream(inputs=inputs, targets=inputs["ids"], batch_first=batch_first)
    assert (len(stream), stream.columns, stream.tokens) == (steps, bsz, steps * bsz)
    windows = [*stream.windows(bptt)]
    assert sum(map(len, windows)) == steps
    assert all(window.inputs.keys() == inputs.keys() and window.inputs["ids"].is_contiguous() for window in windows)
    parts = [(window.inputs["ids"], *window.inputs["more"], window.targets) for window in windows]
    joined = [torch.cat(tensors, int(batch_first)) for tensors in zip(*parts, strict=True)]
    assert all(map(torch.equal, joined, (inputs["ids"], *inputs["more"], inputs["ids"])))


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        ((), torch.zeros(3, 1), r"found no tensor and \(3, 1\)"),
        ({"a": torch.zeros(3, 1), "b": torch.zeros(2, 1)}, torch.zeros(3, 1), r"found \(3, 1\), \(2, 1\) and \(3, 1\)"),
        ((torch.zeros(3),), torch.zeros(3, 1), r"found \(3,\) and \(3, 1\)"),
        (torch.zeros(3, 1), (torch.zeros(3, 1),), "the cross-entropy needs a tensor of classes, found 1 targets"),
    ],
)
def test_stream_refuses_tensors_that_do_not_have_the_same_steps(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        Stream(inputs=inputs, targets=targets)


@pytest.mark.parametrize("bptt", [0, -1])
def test_windows_refuses_a_length_below_one_step(bptt):
    with pytest.raises(ValueError, match=f"at least 1 step, found {bptt}"):
        next_words(batchify(torch.arange(10), 1)).windows(bptt)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (9, 0)])
def test_next_words_refuses_a_source_without_targets(shape):
    with pytest.raises(ValueError, match=rf"at least 2 steps and 1 column, found shape \({shape[0]}, {shape[1]}\)"):
        next_words(torch.zeros(shape, dtype=torch.int64))


def test_next_words_refuses_another_dtype_or_number_of_dimensions():
    for dtype in (torch.int32, torch.float32):
        with pytest.raises(ValueError, match=f"expected int64 ids, found {dtype}"):
            next_words(torch.zeros(9, 4, dtype=dtype))
    with pytest.raises(ValueError, match=r"shape \(steps, bsz\)"):
        next_words(torch.arange(10))
