"""An LSTM tagger under the gate: ``pytest benchmarks --gate-workload docs/tagger/tagger.py:workload``."""

import torch
from torch import Tensor, nn

from lstmq import Stream, Subject, Workload

WORDS, TAGS, WIDTH = 5_000, 17, 256


class Tagger(nn.Module):
    """A tag for every word, from the words on both sides of it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.lstm = nn.LSTM(WIDTH, WIDTH, num_layers=2, bidirectional=True)
        self.tags = nn.Linear(2 * WIDTH, TAGS)

    def forward(self, input: Tensor) -> Tensor:
        """Return logits, shape ``(n, bsz, TAGS)``, of words, shape ``(n, bsz)``."""
        output, _ = self.lstm(self.words(input))
        return self.tags(output)


def workload() -> Workload:
    """Return what is measured. Yours reads weights and sentences from files; these are drawn."""
    torch.manual_seed(0)
    words = torch.randint(WORDS, (3_000, 1))  # 3,000 steps of one column
    stream = Stream(inputs=words, targets=words % TAGS)
    subject = Subject(model=Tagger(), stream=stream, origin="a tagger with seeded weights")
    return Workload(speed=subject, loss=subject)
