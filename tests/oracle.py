"""The language model again, in NumPy and float64, from the equations: it shares no code with torch or lstmq."""

from itertools import pairwise

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def predictions(state, nlayers, column):
    """Return log-probabilities of the next word after every word of a column but the last.

    ``state`` is the model's state dict as arrays. The equations are those of Hochreiter and Schmidhuber (1997) with
    the forget gate of Gers et al. (2000); the gates lie in the order in which torch documents them: i, f, g, o.
    """
    state = {key: value.astype(np.float64) for key, value in state.items()}
    nhid = state["decoder.weight"].shape[1]
    h, c = np.zeros((nlayers, nhid)), np.zeros((nlayers, nhid))
    told = []
    for word in column[:-1]:
        x = state["encoder.weight"][word]
        for layer in range(nlayers):
            w_ih, w_hh = state[f"rnn.weight_ih_l{layer}"], state[f"rnn.weight_hh_l{layer}"]
            gates = w_ih @ x + w_hh @ h[layer] + state[f"rnn.bias_ih_l{layer}"] + state[f"rnn.bias_hh_l{layer}"]
            i, f, g, o = np.split(gates, 4)
            c[layer] = sigmoid(f) * c[layer] + sigmoid(i) * np.tanh(g)
            x = h[layer] = sigmoid(o) * np.tanh(c[layer])
        logits = state["decoder.weight"] @ x + state["decoder.bias"]
        told.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    return np.array(told)


def loss(state, nlayers, source):
    """Return the mean cross-entropy over a source of shape ``(steps, bsz)``, one word at a time, one column at a time.

    ``state`` is as for :func:`predictions`.
    """
    nats = []
    for column in source.T:
        told = predictions(state, nlayers, column)
        nats += [-log_p[target] for log_p, (_, target) in zip(told, pairwise(column), strict=True)]
    return float(np.mean(nats))
