"""The language model in NumPy and float64, written from the equations. It shares no code with torch or lstmq."""

from itertools import pairwise

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def predictions(state, nlayers, column):
    """Return log-probabilities of the next word after each word of a column except the last.

    The equations are those of Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000). The gates
    are in the order that torch documents: i, f, g, o.

    Args:
        state: the state dict of the model, as NumPy arrays.
        nlayers: number of LSTM layers.
        column: ids, shape ``(steps,)``.

    Returns:
        float64, shape ``(steps - 1, ntoken)``.
    """
    state = {key: value.astype(np.float64) for key, value in state.items()}
    nhid = state["decoder.weight"].shape[1]
    h, c = np.zeros((nlayers, nhid)), np.zeros((nlayers, nhid))
    rows = []
    for word in column[:-1]:
        x = state["encoder.weight"][word]
        for layer in range(nlayers):
            w_ih, w_hh = state[f"rnn.weight_ih_l{layer}"], state[f"rnn.weight_hh_l{layer}"]
            gates = w_ih @ x + w_hh @ h[layer] + state[f"rnn.bias_ih_l{layer}"] + state[f"rnn.bias_hh_l{layer}"]
            i, f, g, o = np.split(gates, 4)
            c[layer] = sigmoid(f) * c[layer] + sigmoid(i) * np.tanh(g)
            x = h[layer] = sigmoid(o) * np.tanh(c[layer])
        logits = state["decoder.weight"] @ x + state["decoder.bias"]
        rows.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    return np.array(rows)


def loss(state, nlayers, source):
    """Return the mean cross-entropy in nats per token, computed one column and one word at a time.

    Args:
        state: as for :func:`predictions`.
        nlayers: as for :func:`predictions`.
        source: ids, shape ``(steps, bsz)``.
    """
    nats = []
    for column in source.T:
        rows = predictions(state, nlayers, column)
        nats += [-log_p[target] for log_p, (_, target) in zip(rows, pairwise(column), strict=True)]
    return float(np.mean(nats))
