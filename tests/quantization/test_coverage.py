"""Laws of what a scheme quantizes.

1. No recurrent module, and no module of a type that the scheme quantizes, stays float32 unless ``keep`` names it.
2. A kept module computes in float32, under every scheme for any module.
3. The coverage lists every module with weights once, and its share counts every weight once.
"""

import copy
import pickle

import pytest
import torch
from torch import nn

from lstmq import SCHEMES, QuantizationError, quantize
from lstmq.quantization import describe_coverage, quantized_share

MODULE_SCHEMES = [name for name, scheme in SCHEMES.items() if not scheme.language_models_only]
module_schemes = pytest.mark.parametrize("scheme", MODULE_SCHEMES)
int8_schemes = pytest.mark.parametrize("scheme", [name for name in MODULE_SCHEMES if name.startswith("int8")])


class MyLSTM(nn.LSTM):
    pass


class MyCell(nn.GRUCell):
    pass


class Tagger(nn.Module):
    """Reads ids, shape ``(n, bsz)``, with a recurrent module or cell."""

    def __init__(self, rnn):
        super().__init__()
        torch.manual_seed(0)
        self.emb, self.rnn, self.out = nn.Embedding(20, 8), rnn, nn.Linear(8, 5)

    def forward(self, ids):
        embedded = self.emb(ids)
        if not isinstance(self.rnn, nn.RNNCellBase) and "Cell" not in type(self.rnn).__name__:
            return self.out(self.rnn(embedded)[0])
        state, outputs = None, []
        for step in embedded:
            state = self.rnn(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return self.out(torch.stack(outputs))


IDS = torch.arange(20).view(10, 2)
RECURRENT = [nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell]


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [(kind, name) for kind in RECURRENT for name in MODULE_SCHEMES if (kind, name) != (nn.RNNCell, "int8-native")],
)
def test_recurrent_modules_are_quantized(kind, scheme):
    model = Tagger(kind(8, 8)).eval()
    quantized = quantize(model, scheme)
    matrices = {weight.dtype for weight in quantized.rnn.parameters() if weight.dim() > 1}
    assert matrices == ({torch.bfloat16} if scheme == "bf16" else set())
    expected, found = model(IDS), quantized(IDS).float()
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() < 0.1
    coverage = describe_coverage(model, quantized, scheme)
    assert [part.name for part in coverage.float32] == (["emb"] if scheme == "int8" else [])


@int8_schemes
@pytest.mark.parametrize("rnn", [nn.RNN(8, 8), MyLSTM(8, 8), MyCell(8, 8)], ids=lambda rnn: type(rnn).__name__)
def test_recurrent_module_that_would_stay_float32_is_refused_unless_it_is_kept(rnn, scheme):
    model, kind = Tagger(rnn).eval(), type(rnn).__name__
    with pytest.raises(
        QuantizationError, match=rf"rnn, a {kind}, would stay float32\. If it may, pass keep=\('rnn',\)"
    ):
        quantize(model, scheme)
    quantized = quantize(model, scheme, keep=["rnn"])
    assert type(quantized.rnn) is type(rnn)
    assert (quantized(IDS) - model(IDS)).abs().max() < 0.1


@module_schemes
@pytest.mark.parametrize("keep", ["rnn", ("rnn",), ("r?n", "o*"), ["*"]])
def test_kept_modules_stay_float32_and_compute_the_same(scheme, keep):
    model = nn.ModuleDict({"part": Tagger(nn.LSTM(8, 8)), "other": Tagger(nn.GRU(8, 8))}).eval()
    keep = [f"part.{pattern}" for pattern in ([keep] if isinstance(keep, str) else keep)]
    part = quantize(model, scheme, keep=keep)["part"]
    assert type(part.rnn) is nn.LSTM
    assert {weight.dtype for weight in part.rnn.parameters()} == {torch.float32}
    x = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(part.rnn(x)[0].float(), model["part"].rnn(x)[0], atol=0.01)
    if keep == ["part.*"]:
        assert {weight.dtype for weight in part.parameters()} == {torch.float32}
    assert copy.deepcopy(part)(IDS).shape == (10, 2, 5)


@module_schemes
def test_keep_includes_the_modules_inside(scheme):
    model = nn.ModuleDict({"part": Tagger(nn.RNN(8, 8)), "other": Tagger(nn.GRU(8, 8))}).eval()
    quantized = quantize(model, scheme, keep=("part",))
    assert {weight.dtype for weight in quantized["part"].parameters()} == {torch.float32}
    assert torch.allclose(quantized["part"](IDS).float(), model["part"](IDS), atol=0.01)


@module_schemes
def test_keep_that_matches_nothing_is_refused(scheme):
    with pytest.raises(ValueError, match="keep: no module of Tagger matches 'rnnn'; it has emb, rnn, out"):
        quantize(Tagger(nn.LSTM(8, 8)), scheme, keep=("rnn", "rnnn"))


@pytest.mark.parametrize("scheme", ["ort-int8", "bf16-compile"])
def test_schemes_that_convert_the_whole_model_cannot_keep_a_module(model, scheme):
    with pytest.raises(QuantizationError, match=f"{scheme} converts the whole model, and cannot keep 'rnn' in float32"):
        quantize(model, scheme, keep=("rnn",))


def test_keeping_everything_leaves_nothing_to_quantize():
    with pytest.raises(QuantizationError, match=r"nothing to quantize: Tagger holds no float .* besides kept ones"):
        quantize(Tagger(nn.LSTM(8, 8)), keep=("*",))


@module_schemes
def test_attention_is_quantized_but_for_what_torch_keeps(scheme):
    model = Tagger(nn.LSTM(8, 8)).eval()
    model.att = nn.MultiheadAttention(8, 2)
    coverage = describe_coverage(model, quantize(model, scheme), scheme)
    weights = {part.name: part.weights for part in (*coverage.quantized, *coverage.float32)}
    assert weights == {"emb": 160, "rnn": 576, "out": 45, "att": 216, "att.out_proj": 72}
    kept = {"int8": {"emb", "att", "att.out_proj"}, "bf16": set()}.get(scheme, {"att", "att.out_proj"})
    assert {part.name for part in coverage.float32} == kept
    assert coverage.share == pytest.approx(1 - sum(weights[name] for name in kept) / 1069)
    assert ("MultiheadAttention att, NonDynamicallyQuantizableLinear att.out_proj" in str(coverage)) is bool(kept)


@pytest.mark.parametrize(
    ("scheme", "share"),
    [
        ("int8", 1 - 480 / 2158),
        ("bf16", 1),
        ("int8-native", 1),
        ("ort-int8-linear-lstm", 1 - 480 / 2158),
        ("ort-fp32", 0),
    ],
)
def test_share_of_a_language_model(model, scheme, share):
    assert sum(weight.numel() for weight in model.parameters()) == 2158
    assert quantized_share(model, quantize(model, scheme), scheme) == pytest.approx(share)


def test_share_counts_tied_weights_once_and_as_float32_if_one_part_keeps_them():
    model = nn.ModuleDict({"out": nn.Linear(8, 20, bias=False), "emb": nn.Embedding(20, 8), "more": nn.Linear(8, 20)})
    model["emb"].weight = model["out"].weight
    coverage = describe_coverage(model, quantize(model), "int8")
    assert coverage.share == 180 / 340
    assert [part.name for part in coverage.quantized] == ["out", "more"]


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # from torch's pickling
@pytest.mark.parametrize("scheme", ["int8", "int8-embedding", "int8-native"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_quantized_model_answers_what_its_code_asks_for(kind, scheme):
    quantized = quantize(Tagger(kind(8, 8)), scheme)
    for each in (quantized, copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):  # noqa: S301
        assert each.rnn.flatten_parameters() is None
        assert next(each.parameters()).new_zeros(2).dtype == torch.float32


class SavesItself(Tagger):
    """Says how it is saved, and makes a new float32 model when it is read."""

    def __init__(self, rnn=None):
        super().__init__(rnn or nn.LSTM(8, 8))

    def __getstate__(self):
        return {"state": self.state_dict()}

    def __setstate__(self, kept):
        self.__init__()
        self.load_state_dict(kept["state"])


@module_schemes
def test_model_with_its_own_getstate_is_quantized(scheme):
    model = nn.Sequential(SavesItself()).eval()
    with torch.no_grad():
        model[0].out.weight.mul_(2)
    quantized = quantize(model, scheme)
    assert type(quantized[0]) is SavesItself
    assert (quantized(IDS).float() - model(IDS)).abs().max() < 0.1


@pytest.mark.filterwarnings("ignore:.*weight_norm.? is deprecated")
def test_model_that_keeps_computed_weights_is_copied():
    model = Tagger(nn.LSTM(8, 8))
    nn.utils.weight_norm(model.out)
    model(IDS)
    assert quantize(model, "bf16")(IDS).shape == (10, 2, 5)
