"""Three small models, trained on the bundled sample: a GRU, a batch-first BiLSTM tagger, and a decoder made of cells.

``python docs/int8/models.py`` trains each, quantizes, saves and loads it, and compares it with float32.
``pytest benchmarks --gate-workload docs/int8/models.py:gru`` gates one; ``tagger`` and ``decoder`` are the others.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from lstmq import Corpus, Stream, Subject, Workload, batchify, compare, load_int8, next_words, quantize, save_int8

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "data" / "sample"
LETTERS = "abcdefghijklmnopqrstuvwxyz "


class WordGRU(nn.Module):
    """Predicts the next word of each word, shape ``(n, bsz)``."""

    def __init__(self, words: int, width: int = 128) -> None:
        super().__init__()
        self.emb, self.gru = nn.Embedding(words, width), nn.GRU(width, width, num_layers=2)
        self.out = nn.Linear(width, words)

    def forward(self, ids: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits, shape ``(n, bsz, words)``, and the state."""
        output, hidden = self.gru(self.emb(ids), hidden)
        return self.out(output), hidden


class CaseTagger(nn.Module):
    """Says which words of a lowercase text, shape ``(bsz, n)``, were capitalized."""

    def __init__(self, words: int, width: int = 128) -> None:
        super().__init__()
        self.emb, self.tags = nn.Embedding(words, width), nn.Linear(2 * width, 2)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits, shape ``(bsz, n, 2)``."""
        return self.tags(self.lstm(self.emb(ids))[0])


class LetterDecoder(nn.Module):
    """Predicts the next letter of each letter, shape ``(n, bsz)``, one call of its cells at a time."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.emb, self.out = nn.Embedding(len(LETTERS), width), nn.Linear(width, len(LETTERS))
        self.first, self.second = nn.LSTMCell(width, width), nn.GRUCell(width, width)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits, shape ``(n, bsz, letters)``."""
        pair, state, outputs = None, None, []
        for letters in self.emb(ids):
            pair = self.first(letters, pair)
            state = self.second(pair[0], state)
            outputs.append(self.out(state))
        return torch.stack(outputs)


def train(name: str, model: nn.Module, read: Callable[[nn.Module], Tensor], steps: int) -> nn.Module:
    """Minimize what ``read`` returns, or load the weights that an earlier run wrote beside this file.

    Args:
        name: of the file of weights.
        model: new.
        read: returns the loss of a random part of the training text.
        steps: how often to read.
    """
    file = HERE / f"{name}.weights.safetensors"
    if file.is_file():
        load_model(model, file)
        return model.eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(steps):
        optimizer.zero_grad()
        read(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    save_model(model, str(file))
    return model.eval()


def gru(steps: int = 200) -> Workload:
    """Return a language model of the sample's words, and its test text."""
    torch.manual_seed(0)
    corpus = Corpus(SAMPLE)
    text = batchify(corpus.train, 20)

    def read(model: nn.Module) -> Tensor:
        start = int(torch.randint(len(text) - 36, ()))
        logits, _ = model(text[start : start + 35])
        return F.cross_entropy(logits.flatten(0, 1), text[start + 1 : start + 36].flatten())

    model = train("gru", WordGRU(len(corpus.dictionary)), read, steps)
    return one_subject(model, next_words(batchify(corpus.test, 1)[:2_001]), "the sample's words")


def tagger(steps: int = 200) -> Workload:
    """Return a tagger of capitalized words, and its test text in four columns."""
    torch.manual_seed(0)
    words = {split: Path(SAMPLE, f"{split}.txt").read_text(encoding="utf-8").split() for split in ("train", "test")}
    known = {word: i for i, word in enumerate(dict.fromkeys(word.lower() for word in words["train"]))}

    def tensors(split: str, columns: int) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([known.get(word.lower(), known["<unk>"]) for word in words[split]])
        tags = torch.tensor([word != word.lower() for word in words[split]]).long()
        ids, tags = (batchify(tensor, columns).T.contiguous() for tensor in (ids, tags))
        return ids, tags

    text, truth = tensors("train", 20)

    def read(model: nn.Module) -> Tensor:
        start = int(torch.randint(text.shape[1] - 35, ()))
        logits = model(text[:, start : start + 35])
        return F.cross_entropy(logits.flatten(0, 1), truth[:, start : start + 35].flatten())

    model = train("tagger", CaseTagger(len(known)), read, steps)
    ids, tags = (tensor[:, :500] for tensor in tensors("test", 4))
    return one_subject(model, Stream(inputs=ids, targets=tags, batch_first=True), "the sample's capital letters")


def decoder(steps: int = 100) -> Workload:
    """Return a decoder of letters, and its test text."""
    torch.manual_seed(0)

    def ids(split: str) -> Tensor:
        text = Path(SAMPLE, f"{split}.txt").read_text(encoding="utf-8").lower()
        return torch.tensor([LETTERS.index(letter) for letter in text if letter in LETTERS])

    text = batchify(ids("train"), 20)

    def read(model: nn.Module) -> Tensor:
        start = int(torch.randint(len(text) - 36, ()))
        logits = model(text[start : start + 35])
        return F.cross_entropy(logits.flatten(0, 1), text[start + 1 : start + 36].flatten())

    model = train("decoder", LetterDecoder(), read, steps)
    return one_subject(model, next_words(batchify(ids("test"), 1)[:2_001]), "the sample's letters")


def one_subject(model: nn.Module, stream: Stream, origin: str) -> Workload:
    """Return a workload that measures speed and loss with the same model."""
    subject = Subject(model=model, stream=stream, origin=origin)
    return Workload(speed=subject, loss=subject)


def show(name: str, workload: Workload, skeleton: nn.Module) -> None:
    """Quantize a model, save it and load it, and print size, loss and speed beside those of float32 and torch's int8.

    Args:
        name: of the file.
        workload: the trained model, and what it reads.
        skeleton: a new model of the same shape, which takes the weights in the file.
    """
    save_int8(quantize(workload.speed.model, "int8-native"), HERE / f"{name}.int8.safetensors")
    load_int8(HERE / f"{name}.int8.safetensors", skeleton)
    for row in compare(workload, ["int8", "int8-native"], bptt=25):
        size, speed = row.size.megabytes, row.speedup.median
        print(f"{name:8} {row.name:12} {size:5.2f} MB  loss {row.loss:.4f}  {speed:.2f}x as fast as float32")


if __name__ == "__main__":
    words = gru()
    show("gru", words, WordGRU(words.speed.model.get_submodule("out").out_features))
    capitals = tagger()
    show("tagger", capitals, CaseTagger(capitals.speed.model.get_submodule("emb").num_embeddings))
    show("decoder", decoder(), LetterDecoder())
