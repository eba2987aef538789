"""A small model that reads a stream in many ways, for the tests of reading."""

import torch
import torch.nn.functional as F
from torch import nn

from lstmq import Stream

CLASSES, WIDTH = 3, 4


class Reader(nn.Module):
    """Carries the state of an LSTM. Subclasses call it with other arguments."""

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.emb, self.rnn, self.out = (
            nn.Embedding(9, WIDTH),
            nn.LSTM(WIDTH, WIDTH, **options),
            nn.Linear(WIDTH, CLASSES),
        )

    def read(self, ids, state):
        output, state = self.rnn(self.emb(ids), state)
        return self.out(output), state


def reader(forward, init_hidden=None, **options):
    """Return a model with this forward, and perhaps this ``init_hidden``."""
    members = {"forward": forward} | ({"init_hidden": init_hidden} if init_hidden else {})
    return type("Model", (Reader,), members)(**options).eval()


def make_stream(steps=20, columns=2, **options):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(9, (steps, columns), generator=generator)
    return Stream(inputs=ids, targets=torch.randint(CLASSES, (steps, columns), generator=generator), **options)


@torch.no_grad()
def carried_loss(model, stream):
    output, _ = model.read(stream.inputs, None)
    return F.cross_entropy(output.flatten(0, 1), stream.targets.flatten()).item()


def swap(result):
    output, (h, c) = result
    return output, [h, c]


def flat(result):
    output, (h, c) = result
    return output, h, c


def join(h, c):
    return None if h is None else (h, c)


STATES = {
    "hidden": lambda self, x, hidden: self.read(x, hidden),
    "any required name": lambda self, x, memo: self.read(x, memo),
    "h0": lambda self, x, h0=None: self.read(x, h0),
    "prev_state": lambda self, x, lengths=None, prev_state=None: self.read(x, prev_state),
    "keyword-only": lambda self, x, *, state=None: self.read(x, state),
    "a list": lambda self, x, hx: swap(self.read(x, hx and tuple(hx))),
    "two, returned in a tuple": lambda self, x, h, c: self.read(x, join(h, c)),
    "two, returned one by one": lambda self, x, h=None, c=None: flat(self.read(x, join(h, c))),
    "two, keyword-only": lambda self, x, *, h_prev, c_prev: flat(self.read(x, join(h_prev, c_prev))),
}
