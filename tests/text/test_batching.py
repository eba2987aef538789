"""Laws of columns and windows.

1. The columns, joined end to end, are the text without the tokens that do not fill a column.
2. The windows tile the source, and the targets are the inputs one step later.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmq import batchify, get_batch


@given(st.integers(1, 300), st.integers(1, 300))
def test_batchify_trims_tokens_that_do_not_fill_a_column(tokens, bsz):
    data = torch.arange(tokens)
    if bsz > tokens:
        with pytest.raises(ValueError, match=f"{tokens} tokens is too short for {bsz} columns"):
            batchify(data, bsz)
        return
    source = batchify(data, bsz)
    assert source.shape == (tokens // bsz, bsz)
    assert source.is_contiguous()
    assert torch.equal(source.t().reshape(-1), data[: tokens // bsz * bsz])


@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 70))
def test_get_batch_tiles_the_source_with_windows(steps, bsz, bptt):
    source = batchify(torch.arange(steps * bsz), bsz)
    pairs = [get_batch(source, i, bptt) for i in range(0, steps - 1, bptt)]
    assert all(len(data) == bptt for data, _ in pairs[:-1])
    assert torch.equal(torch.cat([data for data, _ in pairs]), source[:-1])
    assert torch.equal(torch.cat([targets for _, targets in pairs]), source[1:].reshape(-1))


@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 70), st.data())
def test_get_batch_returns_the_next_words_as_targets(steps, bsz, bptt, data):
    i = data.draw(st.integers(0, steps - 2))
    source = batchify(torch.arange(steps * bsz), bsz)
    window, targets = get_batch(source, i, bptt)
    assert window.shape == (min(bptt, steps - 1 - i), bsz)
    assert targets.shape == (window.numel(),)
    assert torch.equal(targets, window.reshape(-1) + 1)  # in each column of this source, the next id is one more


@pytest.mark.parametrize("bsz", [0, -3])
def test_batchify_refuses_a_batch_size_below_one(bsz):
    with pytest.raises(ValueError, match=f"at least 1, found {bsz}"):
        batchify(torch.arange(9), bsz)


def test_batchify_refuses_ids_of_two_dimensions():
    with pytest.raises(ValueError, match=r"shape \(tokens,\), found shape \(3, 3\)"):
        batchify(torch.zeros(3, 3), 1)


@pytest.mark.parametrize("i", [-1, 9, 10, 99])
def test_get_batch_refuses_a_step_without_a_target(i):
    with pytest.raises(ValueError, match=f"no window starts at step {i} of a source of 10 steps"):
        get_batch(batchify(torch.arange(10), 1), i, 5)


@pytest.mark.parametrize("bptt", [0, -1])
def test_get_batch_refuses_a_window_below_one_step(bptt):
    with pytest.raises(ValueError, match=f"at least 1 step, found {bptt}"):
        get_batch(batchify(torch.arange(10), 1), 0, bptt)
