"""The law of windows that are shared over threads: the columns are divided, and the bits are those of one thread."""

import pytest
import torch

from lstmq import LSTMModel, ModelConfig
from lstmq.quantization.native.library import load_library
from lstmq.quantization.native.model import quantize_native
from strategies import random_ids

pytestmark = pytest.mark.skipif(load_library() is None, reason="the kernels were not built")


def read(model, ids, hidden, threads):
    """Return logits, loss and the state after, with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        logits, after = model(ids, hidden)
        loss, after_loss = model.window_loss(ids, ids.flip(0), hidden)
    finally:
        torch.set_num_threads(before)
    return logits, loss, *after, *after_loss


@pytest.mark.parametrize(("steps", "columns", "threads"), [(5, 12, 2), (3, 21, 4), (9, 3, 8)])
def test_logits_losses_and_states_are_those_of_one_thread(isa, steps, columns, threads):
    """The model is large enough that each thread gets some columns, not always the same number of them."""
    config = ModelConfig(ntoken=5_000, ninp=130, nhid=256, nlayers=2)
    model = quantize_native(LSTMModel(config, torch.Generator().manual_seed(0)))
    ids = random_ids(5_000, steps * columns, 0).view(steps, columns)
    hidden = [torch.randn(2, columns, 256, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    alone, shared = (read(model, ids, hidden, count) for count in (1, threads))
    assert all(map(torch.equal, shared, alone))
