"""Stand-ins for recurrent models that other people published: the same modules, states, inputs and outputs.

Each function ``NAME`` returns a workload at the published widths, as ``--gate-workload stand_ins.py:NAME`` needs it.
``CASES[NAME](full=False)`` returns a small one, with its plain loss: what a loop in torch alone computes.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lstmq import Stream, Subject, Workload


@dataclass(kw_only=True)
class Case:
    model: nn.Module
    inputs: Any
    targets: Any
    plain: Callable[..., Any]  # (model, inputs, targets, state) -> (summed loss, number of targets, state)
    first_state: Callable[[], Any] = lambda: None
    stream: dict[str, Any] = field(default_factory=dict)
    subject: dict[str, Any] = field(default_factory=dict)

    def workload(self):
        stream = Stream(inputs=self.inputs, targets=self.targets, **self.stream)
        subject = Subject(
            model=self.model.eval(), stream=stream, origin="a stand-in with seeded weights", **self.subject
        )
        return Workload(speed=subject, loss=subject)


def summed(logits, targets):
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="sum")


def random_ids(high, *shape):
    return torch.randint(high, shape)


class WordModel(nn.Module):
    """PyTorch's word language model example."""

    def __init__(self, kind, ntoken, width, tied=False):
        super().__init__()
        self.kind, self.width = kind, width
        self.drop = nn.Dropout(0.2)
        self.encoder = nn.Embedding(ntoken, width)
        self.rnn = getattr(nn, kind)(width, width, 2, dropout=0.2)
        self.decoder = nn.Linear(width, ntoken)
        if tied:
            self.decoder.weight = self.encoder.weight

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        zeros = weight.new_zeros(2, bsz, self.width)
        return (zeros, zeros.clone()) if self.kind == "LSTM" else zeros

    def forward(self, input, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(input)), hidden)
        return F.log_softmax(self.decoder(self.drop(output)).view(-1, self.decoder.out_features), dim=1), hidden


def word_model(full, kind="LSTM", tied=False):
    ntoken, width = (33_278, 200) if full else (50, 16)
    model, ids = WordModel(kind, ntoken, width, tied), random_ids(ntoken, 1001 if full else 61, 1)

    def plain(model, inputs, targets, state):
        output, state = model(inputs, state)
        return F.nll_loss(output, targets.flatten(), reduction="sum"), targets.numel(), state

    return Case(model=model, inputs=ids[:-1], targets=ids[1:], plain=plain, first_state=partial(model.init_hidden, 1))


class WeightDrop(nn.Module):
    """Drops recurrent weights: the raw weights are its parameter, and the LSTM gets a tensor before each window."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.weight_hh_l0_raw = nn.Parameter(module.weight_hh_l0.data)
        del module._parameters["weight_hh_l0"]
        module.flatten_parameters = lambda *_: None
        self._set()

    def _set(self):
        self.module.weight_hh_l0 = F.dropout(self.weight_hh_l0_raw, p=0.5, training=self.training)

    def forward(self, *args):
        self._set()
        return self.module(*args)


class AWD(nn.Module):
    """AWD-LSTM: its state is a list of pairs."""

    def __init__(self, ntoken, ninp, nhid):
        super().__init__()
        self.widths = [ninp, nhid, nhid, ninp]
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnns = nn.ModuleList(WeightDrop(nn.LSTM(a, b)) for a, b in zip(self.widths, self.widths[1:], strict=False))
        self.decoder = nn.Linear(ninp, ntoken)
        self.decoder.weight = self.encoder.weight

    def init_hidden(self, bsz):
        weight = next(self.parameters()).data
        return [(weight.new_zeros(1, bsz, n), weight.new_zeros(1, bsz, n)) for n in self.widths[1:]]

    def forward(self, input, hidden, return_h=False):
        output, after = self.encoder(input), []
        for rnn, state in zip(self.rnns, hidden, strict=True):
            output, state = rnn(output, state)
            after.append(state)
        return self.decoder(output), after


def awd_lstm(full):
    ntoken, ninp, nhid = (33_278, 400, 1150) if full else (50, 12, 20)
    model, ids = AWD(ntoken, ninp, nhid), random_ids(ntoken, 501 if full else 61, 1)

    def plain(model, inputs, targets, state):
        output, state = model(inputs, state)
        return summed(output, targets), targets.numel(), state

    return Case(model=model, inputs=ids[:-1], targets=ids[1:], plain=plain, first_state=partial(model.init_hidden, 1))


class CRNN(nn.Module):
    """Reads text in images, shape (images, 1, height, width): (time, images, classes)."""

    def __init__(self, height, channels, nhid, classes):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d((height, 4))
        )
        self.rnn1, self.embedding1 = nn.LSTM(channels, nhid, bidirectional=True), nn.Linear(2 * nhid, nhid)
        self.rnn2, self.embedding2 = nn.LSTM(nhid, nhid, bidirectional=True), nn.Linear(2 * nhid, classes)

    def forward(self, images):
        features = self.cnn(images).squeeze(2).permute(2, 0, 1)
        for rnn, linear in ((self.rnn1, self.embedding1), (self.rnn2, self.embedding2)):
            output, _ = rnn(features)
            features = linear(output)
        return features


def ctc(output, targets):
    """Return the loss of labels, shape (images, length), summed over the images."""
    images, length = targets.shape
    lengths = torch.full((images,), len(output)), torch.full((images,), length)
    return F.ctc_loss(output.log_softmax(2), targets, *lengths, reduction="sum")


def crnn(full):
    height, channels, nhid, steps = (32, 512, 256, 60) if full else (8, 6, 8, 12)
    images, labels = torch.randn(steps, 2, 1, height, 40), 1 + random_ids(36, steps, 2, 5)
    return Case(
        model=CRNN(height, channels, nhid, 37),
        inputs=images,
        targets=labels,
        plain=lambda model, x, y, state: (ctc(model(x.flatten(0, 1)).float(), y.flatten(0, 1)), len(y) * 2, state),
        stream={"loss": lambda output, labels: ctc(output, labels.flatten(0, 1))},
        subject={"call": lambda model, images: model(images.flatten(0, 1))},
    )


class DeepSpeech(nn.Module):
    """Reads spectrograms of different lengths, batch first, with packed sequences. It returns two tensors."""

    def __init__(self, kind, features, nhid, layers, classes):
        super().__init__()
        self.conv = nn.Conv1d(features, nhid, 3, padding=1)
        rnn = getattr(nn, kind)
        self.rnns = nn.ModuleList(rnn(nhid, nhid, bidirectional=True) for _ in range(layers))
        self.fc = nn.Linear(nhid, classes, bias=False)

    def forward(self, x, lengths):
        x = self.conv(x).permute(2, 0, 1)
        for rnn in self.rnns:
            rnn.flatten_parameters()
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
            x, _ = nn.utils.rnn.pad_packed_sequence(rnn(packed)[0], total_length=len(x))
            x = x.view(*x.shape[:2], 2, -1).sum(2)
        return self.fc(x), lengths


def deepspeech(full, kind="LSTM"):
    features, nhid, layers, classes, time, steps = (161, 1024, 5, 29, 100, 40) if full else (9, 12, 2, 7, 15, 8)
    inputs = torch.randn(steps, 1, features, time), torch.randint(time // 2, time + 1, (steps, 1))
    targets = random_ids(classes, steps, 1, time)

    def total(output, targets):
        output, lengths = output
        real = torch.arange(len(output))[:, None] < lengths
        return F.cross_entropy(output[real], targets.flatten(0, 1).T[real], reduction="sum"), int(real.sum())

    def call(model, inputs):
        x, lengths = inputs
        return model(x.flatten(0, 1), lengths.flatten())

    return Case(
        model=DeepSpeech(kind, features, nhid, layers, classes),
        inputs=inputs,
        targets=targets,
        plain=lambda model, x, y, state: (*total(call(model, x), y), state),
        stream={"loss": total},
        subject={"call": call},
    )


class Tacotron(nn.Module):
    """Tacotron 2 in teacher forcing: a prenet whose dropout stays on, LSTM cells, attention, several outputs."""

    def __init__(self, symbols, width, nhid, mels):
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.encoder = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.prenet = nn.Linear(mels, width // 2)
        self.attention_rnn = nn.LSTMCell(width + width // 2, nhid)
        self.query = nn.Linear(nhid, width, bias=False)
        self.decoder_rnn = nn.LSTMCell(nhid + width, nhid)
        self.projection, self.gate = nn.Linear(nhid + width, mels), nn.Linear(nhid + width, 1)

    def forward(self, text, mels):
        memory, _ = self.encoder(self.embedding(text))
        context, first, second = memory.mean(1), None, None
        outputs, gates = [], []
        for frame in mels.unbind(1):
            frame = F.dropout(F.relu(self.prenet(frame)), 0.5, training=True)
            first = self.attention_rnn(torch.cat((frame, context), 1), first)
            weights = (memory @ self.query(first[0])[..., None]).softmax(1)
            context = (weights * memory).sum(1)
            second = self.decoder_rnn(torch.cat((first[0], context), 1), second)
            both = torch.cat((second[0], context), 1)
            outputs.append(self.projection(both))
            gates.append(self.gate(both))
        return torch.stack(outputs, 1), torch.stack(gates, 1)


def tacotron(full):
    symbols, width, nhid, mels, steps = (148, 512, 1024, 80, 20) if full else (20, 12, 16, 6, 6)
    inputs = {"text": random_ids(symbols, steps, 2, 9), "mels": torch.randn(steps, 2, 12, mels)}
    targets = {"mels": torch.randn(steps, 2, 12, mels), "gate": torch.zeros(steps, 2, 12, 1)}

    def total(output, targets):
        mel, gate = output
        losses = (
            F.mse_loss(mel, targets["mels"].flatten(0, 1), reduction="sum"),
            F.binary_cross_entropy_with_logits(gate, targets["gate"].flatten(0, 1), reduction="sum"),
        )
        return losses[0] + losses[1]

    def call(model, inputs):
        return model(**{name: x.flatten(0, 1) for name, x in inputs.items()})

    return Case(
        model=Tacotron(symbols, width, nhid, mels),
        inputs=inputs,
        targets=targets,
        plain=lambda model, x, y, state: (total(call(model, x), y), 2 * len(x["text"]), state),
        stream={"loss": total},
        subject={"call": call},
    )


class NCRF(nn.Module):
    """NCRF++ without its CRF: words and their characters, batch first."""

    def __init__(self, words, chars, width, nhid, labels):
        super().__init__()
        self.words, self.chars = nn.Embedding(words, width), nn.Embedding(chars, 30)
        self.char_lstm = nn.LSTM(30, 25, batch_first=True, bidirectional=True)
        self.lstm = nn.LSTM(width + 50, nhid // 2, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(nhid, labels)

    def forward(self, words, chars):
        _, (h, _) = self.char_lstm(self.chars(chars.flatten(0, 1)))
        of_chars = h.transpose(0, 1).reshape(*words.shape, 50)
        output, _ = self.lstm(torch.cat((self.words(words), of_chars), 2))
        return self.hidden2tag(output)


def ncrf(full):
    words, width, nhid, steps = (20_000, 100, 200, 400) if full else (40, 10, 12, 50)
    labels = random_ids(9, 4, steps)
    labels[:, ::3] = -100  # padding

    def plain(model, inputs, targets, state):
        return summed(model(*inputs), targets), int((targets >= 0).sum()), state

    return Case(
        model=NCRF(words, 60, width, nhid, 9),
        inputs=(random_ids(words, 4, steps), random_ids(60, 4, steps, 7)),
        targets=labels,
        plain=plain,
        stream={"batch_first": True},
    )


class Flair(nn.Module):
    """flair's character language model: it says itself how it is saved, and returns three values."""

    def __init__(self, chars, width, nhid):
        super().__init__()
        self.sizes = chars, width, nhid
        self.encoder, self.rnn, self.decoder = nn.Embedding(chars, width), nn.LSTM(width, nhid), nn.Linear(nhid, chars)

    def init_hidden(self, bsz):
        weight = next(self.parameters()).detach()
        return weight.new_zeros(1, bsz, self.sizes[2]), weight.new_zeros(1, bsz, self.sizes[2])

    def forward(self, input, hidden, ordered_sequence_lengths=None, decode=True):
        self.rnn.flatten_parameters()
        output, hidden = self.rnn(self.encoder(input), hidden)
        return self.decoder(output), output, hidden

    def __getstate__(self):
        return {"sizes": self.sizes, "state_dict": self.state_dict()}

    def __setstate__(self, kept):
        self.__init__(*kept["sizes"])
        self.load_state_dict(kept["state_dict"])


def flair(full):
    chars, width, nhid = (275, 100, 2048) if full else (20, 8, 12)
    model, ids = Flair(chars, width, nhid), random_ids(chars, 501 if full else 61, 1)

    def call(model, input, state):
        decoded, _, state = model(input, state)
        return decoded, state

    def plain(model, inputs, targets, state):
        decoded, _, state = model(inputs, state)
        return summed(decoded, targets), targets.numel(), state

    first = partial(model.init_hidden, 1)
    return Case(model=model, inputs=ids[:-1], targets=ids[1:], plain=plain, first_state=first, subject={"call": call})


class Transducer(nn.Module):
    """RNN-T: an encoder of sound, a predictor of labels, and a joint network over both."""

    def __init__(self, features, encoder, predictor, joint, labels):
        super().__init__()
        self.pre, self.post = nn.LSTM(features, encoder, 2), nn.LSTM(2 * encoder, encoder, 3)
        self.embed, self.prediction = nn.Embedding(labels, predictor), nn.LSTM(predictor, predictor, 2)
        self.joint_enc, self.joint_pred = nn.Linear(encoder, joint), nn.Linear(predictor, joint)
        self.joint = nn.Sequential(nn.ReLU(), nn.Linear(joint, labels))

    def forward(self, sound, labels):
        time, bsz, _ = sound.shape
        stacked = self.pre(sound)[0].view(time // 2, 2, bsz, -1).transpose(1, 2).flatten(2)
        f = self.joint_enc(self.post(stacked)[0]).transpose(0, 1)
        g = self.joint_pred(self.prediction(self.embed(labels).transpose(0, 1))[0]).transpose(0, 1)
        return {"logits": self.joint(f[:, :, None] + g[:, None]), "encoded": f}


def rnn_t(full):
    features, encoder, predictor, joint, labels = (240, 1024, 320, 512, 29) if full else (10, 12, 8, 10, 7)
    time, steps = (100, 12) if full else (8, 6)
    inputs = {"sound": torch.randn(steps, 1, time, features), "labels": random_ids(labels, steps, 1, 5)}
    targets = random_ids(labels, steps, 1, time // 2, 5)

    def call(model, inputs):
        sound, labels = inputs["sound"].flatten(0, 1).transpose(0, 1), inputs["labels"].flatten(0, 1)
        return model(sound, labels)["logits"]

    def plain(model, x, y, state):
        return summed(call(model, x), y), y.numel(), state

    model = Transducer(features, encoder, predictor, joint, labels)
    return Case(model=model, inputs=inputs, targets=targets, plain=plain, subject={"call": call})


class Seq2Seq(nn.Module):
    """A GRU encoder and a GRU decoder, which sometimes reads its own words."""

    def __init__(self, words, width, nhid):
        super().__init__()
        self.source, self.target = nn.Embedding(words, width), nn.Embedding(words, width)
        self.encoder, self.decoder = nn.GRU(width, nhid, bidirectional=True), nn.GRU(width, nhid)
        self.fc, self.out = nn.Linear(2 * nhid, nhid), nn.Linear(nhid, words)

    def forward(self, src, trg, teacher_forcing_ratio=0.5):
        _, h = self.encoder(self.source(src))
        state, word, outputs = torch.tanh(self.fc(torch.cat((h[0], h[1]), 1)))[None], trg[:1], []
        for true in trg:
            output, state = self.decoder(self.target(word), state)
            outputs.append(self.out(output))
            word = true[None] if random.random() < teacher_forcing_ratio else outputs[-1].argmax(2)
        return torch.cat(outputs)


def seq2seq(full):
    words, width, nhid, steps = (8_000, 256, 512, 40) if full else (20, 8, 12, 8)
    sentences = random_ids(words, steps, 2, 11), random_ids(words, steps, 2, 9)

    def call(model, inputs):
        return model(*(x.flatten(0, 1).T for x in inputs)).transpose(0, 1)

    def plain(model, x, y, state):
        return summed(call(model, x), y), y.numel(), state

    targets = random_ids(words, steps, 2, 9)
    return Case(
        model=Seq2Seq(words, width, nhid), inputs=sentences, targets=targets, plain=plain, subject={"call": call}
    )


class DeepAR(nn.Module):
    """Predicts the mean and the deviation of the next value. Its two states are arguments of their own."""

    def __init__(self, covariates, width):
        super().__init__()
        self.lstm = nn.LSTM(1 + covariates, width, 3)
        self.mu, self.presigma = nn.Linear(width, 1), nn.Linear(width, 1)

    def init_hidden(self, device="cpu"):
        return torch.zeros(3, 4, self.lstm.hidden_size, device=device)

    def forward(self, x, *, hidden, cell):
        output, (hidden, cell) = self.lstm(x, (hidden, cell))
        return (self.mu(output), F.softplus(self.presigma(output))), hidden, cell


def deepar(full):
    width, steps = (40, 2_000) if full else (8, 60)
    values = torch.randn(steps, 4, 1)

    def total(output, targets):
        mu, sigma = output
        return -torch.distributions.Normal(mu, sigma).log_prob(targets).sum()

    def plain(model, x, y, state):
        output, h, c = model(x, hidden=state[0], cell=state[1])
        return total([part.float() for part in output], y), len(x) * 4, (h, c)

    def first_state(bsz=4):
        return torch.zeros(3, bsz, width), torch.zeros(3, bsz, width)

    return Case(
        model=DeepAR(4, width),
        inputs=torch.cat((values, torch.randn(steps, 4, 4)), 2),
        targets=torch.randn(steps, 4, 1),
        plain=plain,
        first_state=first_state,
        stream={"loss": total, "first_state": first_state},
    )


MAKERS = {
    "word_lstm": word_model,
    "word_lstm_tied": partial(word_model, tied=True),
    "word_gru": partial(word_model, kind="GRU"),
    "awd_lstm": awd_lstm,
    "crnn": crnn,
    "deepspeech_lstm": deepspeech,
    "deepspeech_gru": partial(deepspeech, kind="GRU"),
    "tacotron2": tacotron,
    "ncrfpp": ncrf,
    "flair_lm": flair,
    "rnn_transducer": rnn_t,
    "sequence_to_sequence": seq2seq,
    "deep_ar": deepar,
}


def make_case(name, full=False):
    torch.manual_seed(0)
    return MAKERS[name](full)


def _workload(name):
    return make_case(name, full=True).workload()


globals().update({name: partial(_workload, name) for name in MAKERS})
