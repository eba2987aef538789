"""Hypothesis strategies that several tests use: words, texts, model shapes and models."""

import torch
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig

# A word can be any text that survives being written between spaces: no white space, no lone surrogates, not empty.
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda text: text.split() == [text])
lines = st.lists(words, max_size=12)
texts = st.lists(lines, min_size=1, max_size=8)

seeds = st.integers(0, 2**32 - 1)


@st.composite
def configs(draw, max_ntoken=40, max_width=12, max_layers=3, min_width=1):
    """Draw the shape of a small model, tied or not."""
    tied, nhid = draw(st.booleans()), draw(st.integers(min_width, max_width))
    return ModelConfig(
        ntoken=draw(st.integers(2, max_ntoken)),
        ninp=nhid if tied else draw(st.integers(min_width, max_width)),
        nhid=nhid,
        nlayers=draw(st.integers(1, max_layers)),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        tied=tied,
    )


@st.composite
def models(draw, **limits):
    """Draw a small float32 model in training mode. The limits are those of :func:`configs`."""
    return LSTMModel(draw(configs(**limits)), torch.Generator().manual_seed(draw(seeds)))


def random_ids(ntoken, tokens, seed):
    """Return random word ids, int64, shape ``(tokens,)``."""
    return torch.randint(ntoken, (tokens,), generator=torch.Generator().manual_seed(seed))


stream = random_ids
