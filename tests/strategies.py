"""Strategies and helpers that several tests share: words, streams, model shapes."""

import torch
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig

# Anything that survives being written between spaces: no white space inside, no lone surrogates, not empty.
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda text: text.split() == [text])
lines = st.lists(words, max_size=12)
texts = st.lists(lines, min_size=1, max_size=8)

seeds = st.integers(0, 2**32 - 1)


@st.composite
def configs(draw, max_ntoken=40, max_width=12, max_layers=3):
    return ModelConfig(
        ntoken=draw(st.integers(2, max_ntoken)),
        ninp=draw(st.integers(1, max_width)),
        nhid=draw(st.integers(1, max_width)),
        nlayers=draw(st.integers(1, max_layers)),
        dropout=draw(st.sampled_from([0.0, 0.5])),
    )


@st.composite
def models(draw, **limits):
    return LSTMModel(draw(configs(**limits)), torch.Generator().manual_seed(draw(seeds)))


def stream(ntoken, tokens, seed):
    """Return int64 ids, shape ``(tokens,)``, drawn evenly."""
    return torch.randint(ntoken, (tokens,), generator=torch.Generator().manual_seed(seed))
