"""Laws of the conversion of a model to int8 modules.

1. What a module computes its weight from is folded into the weight, or the module is refused by its name.
2. Shared modules stay shared and tied weights tied, also in copies.
3. The state is plain tensors, which any way of saving keeps; and another quantized copy of the model can load it.
"""

import copy
import io
import pickle

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from lstmq import LSTMModel, ModelConfig, QuantizationError, model_size, quantize
from lstmq.quantization.native import NativeModel
from lstmq.quantization.native.modules import Int8Linear
from lstmq.quantization.native.recurrent import Int8LSTM

IDS = torch.arange(20).view(10, 2)


class Tagger(nn.Module):
    """Reads ids, shape ``(n, bsz)``."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.emb, self.rnn = nn.Embedding(20, 8, padding_idx=0), nn.LSTM(8, 8, 2, bidirectional=True)
        self.cell, self.out = nn.GRUCell(16, 8), nn.Linear(8, 20)

    def init_hidden(self, bsz):
        return next(self.parameters()).new_zeros(bsz, 8)

    def forward(self, ids):
        self.rnn.flatten_parameters()
        state, outputs = self.init_hidden(ids.shape[1]), []
        for step in self.rnn(self.emb(ids))[0]:
            state = self.cell(step, state)
            outputs.append(state)
        return self.out(torch.stack(outputs))


def native(model, **options):
    return quantize(model, "int8-native", **options)


@pytest.fixture(scope="module")
def quantized():
    return native(Tagger())


def test_every_module_is_replaced_and_the_model_does_not_change():
    model = Tagger()
    before = copy.deepcopy(model.state_dict())
    quantized = native(model)
    names = [type(module).__name__ for module in quantized.modules()]
    assert names == ["Tagger", "Int8Embedding", "Int8LSTM", "Int8GRUCell", "Int8Linear"]
    assert model.training
    assert not any(module.training for module in quantized.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert (quantized(IDS) - model(IDS)).abs().max() < 0.05


@pytest.mark.parametrize("root", [nn.LSTM(4, 5), nn.GRU(4, 5), nn.LSTMCell(4, 5), nn.Linear(4, 5)])
def test_a_model_may_be_one_module(root):
    quantized, x = native(root), torch.randn(3, 2, 4) if isinstance(root, nn.RNNBase) else torch.randn(2, 4)
    found, expected = quantized(x), root(x)
    found, expected = (output[0] if isinstance(output, tuple) else output for output in (found, expected))
    assert 0 < (found - expected).abs().max() < 0.05


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("padding", [None, torch.tensor([[False, False, True], [False, False, False]])])
@torch.no_grad()
def test_transformers_call_their_int8_layers(padding):
    """In its fast path, torch's encoder reads their weights."""
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2).eval()
    x = torch.randn(2, 3, 16)
    found, expected = (each(x, src_key_padding_mask=padding) for each in (native(model), model))
    real = torch.ones(2, 3, dtype=torch.bool) if padding is None else ~padding
    assert 0 < (found - expected)[real].abs().max() < 0.1


def test_language_model_keeps_its_fused_engine_unless_a_module_is_kept():
    model = LSTMModel(ModelConfig(ntoken=30, ninp=16, nhid=16, nlayers=2, tied=True), torch.Generator().manual_seed(0))
    whole, parts = native(model), native(model, keep=("decoder",))
    assert type(whole) is NativeModel
    assert (type(parts), type(parts.rnn), type(parts.decoder)) == (LSTMModel, Int8LSTM, nn.Linear)
    (logits, _), (expected, _) = parts(IDS, parts.init_hidden(2)), model.eval()(IDS, model.init_hidden(2))
    assert (logits - expected).abs().max() < 0.05


def test_quantizing_twice_finds_nothing_left(quantized):
    with pytest.raises(QuantizationError, match="nothing to quantize"):
        native(quantized)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Noisy(nn.Module):
    def forward(self, weight):
        return weight + torch.rand_like(weight)


def fold(kind):
    """Return a tagger of which something computes a weight, and the name of that module."""
    model = Tagger().eval()
    match kind:
        case "weight norm":
            nn.utils.weight_norm(model.out)
            nn.utils.weight_norm(model.rnn, "weight_hh_l1")
        case "weight norm as a parametrization":
            parametrizations.weight_norm(model.out)
            parametrizations.weight_norm(model.rnn, "weight_hh_l1_reverse")
        case "spectral norm":
            nn.utils.spectral_norm(model.out)
        case "spectral norm as a parametrization":
            parametrizations.spectral_norm(model.emb)
        case "orthogonal":
            parametrizations.orthogonal(model.cell, "weight_hh")
        case "a parametrization":
            parametrize.register_parametrization(model.rnn, "weight_ih_l0", Doubled())
            parametrize.register_parametrization(model.out, "bias", Doubled())
        case "max_norm":
            model.emb.max_norm = 0.5
    return model.eval()


FOLDED = ["weight norm", "weight norm as a parametrization", "spectral norm", "spectral norm as a parametrization"]
FOLDED += ["orthogonal", "a parametrization", "max_norm"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.? is deprecated")
@pytest.mark.filterwarnings("ignore:.*RNN module weights are not part of single contiguous chunk:UserWarning")
@pytest.mark.parametrize("kind", FOLDED)
@torch.no_grad()
def test_computed_weights_are_folded(kind):
    model = fold(kind)
    for weight in model.parameters():
        weight.mul_(1.5)  # what a hook computed before is out of date now
    quantized = native(model)
    plain = (model.state_dict().keys() ^ Tagger().state_dict().keys()) or kind == "max_norm"
    assert plain
    assert quantized.state_dict().keys() == native(Tagger()).state_dict().keys()
    expected = model(IDS)
    assert (quantized(IDS) - expected).abs().max() < 0.05 * max(1, expected.abs().max())
    assert not quantized.out._forward_pre_hooks


def test_weight_that_differs_each_time_is_refused():
    model = Tagger()
    parametrize.register_parametrization(model.out, "weight", Noisy())
    with pytest.raises(QuantizationError, match=r"out\.weight: computed twice, it differs.*keep=\('out',\)"):
        native(model)
    assert type(native(model, keep=["out"]).rnn) is Int8LSTM


def test_replaced_forward_is_refused():
    model = Tagger()
    model.rnn.forward = lambda x: x
    with pytest.raises(QuantizationError, match=r"rnn: its forward was replaced.*keep=\('rnn',\)"):
        native(model)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(value):
    model = Tagger()
    with torch.no_grad():
        model.cell.bias_hh[3] = value
    with pytest.raises(QuantizationError, match=r"expected finite numbers in cell\.bias_hh, found NaN or infinity"):
        native(model)


def test_too_wide_modules_are_refused():
    model = nn.Sequential(nn.Linear(2**16 + 1, 1))
    with pytest.raises(QuantizationError, match="0: expected from 1 to 65,536 columns, found 65,537"):
        native(model)


def test_a_weight_that_is_set_is_quantized():
    """Wrappers that drop weights in training set them before every call, also in evaluation mode."""
    model, other = Tagger(), Tagger(seed=1)
    weight = model.rnn.weight_hh_l0.detach().clone()
    quantized = native(model)
    expected, integers = quantized(IDS), quantized.rnn.int8_hh_l0
    for _ in range(2):
        quantized.rnn.weight_hh_l0 = weight
        assert quantized.rnn.int8_hh_l0 is integers
        assert torch.equal(quantized(IDS), expected)
    for other_weight in (other.rnn.weight_hh_l0, weight.mul_(2)):
        model.rnn.weight_hh_l0 = nn.Parameter(other_weight.detach().clone())
        quantized.rnn.weight_hh_l0 = other_weight
        assert torch.equal(quantized(IDS), native(model)(IDS))
    with pytest.raises(ValueError, match=r"weight_hh_l0: expected shape \(32, 8\), found \(8, 32\)"):
        quantized.rnn.weight_hh_l0 = weight.T
    assert "weight_hh_l0" not in vars(quantized.rnn)


def tie(model):
    model.out.weight = model.emb.weight
    model.again = model.rnn
    return model


def test_tied_weights_and_shared_modules_stay_one():
    quantized = native(tie(Tagger()))
    for each in (quantized, copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):  # noqa: S301 # ours
        assert each.out.int8 is each.emb.int8
        assert each.out.scale is each.emb.scale
        assert each.again is each.rnn
    assert {"emb.int8", "out.int8", "rnn.int8_ih_l0", "again.int8_ih_l0"} <= quantized.state_dict().keys()
    assert model_size(quantized).parts["out"] < model_size(native(Tagger())).parts["out"] - 20 * 8


def test_tied_embedding_with_a_largest_norm_is_refused():
    model = tie(Tagger())
    model.emb.max_norm = 1.0
    with pytest.raises(QuantizationError, match="emb: an embedding with max_norm and tied weights"):
        native(model)


def test_kept_module_keeps_its_weights_if_others_are_tied_to_it():
    model = tie(Tagger())
    quantized = native(model, keep=("out",))
    assert torch.equal(quantized.out.weight, model.out.weight)
    assert quantized.emb.int8.dtype == torch.int8


def test_hooks_and_attributes_of_the_user_are_kept():
    model, seen = Tagger(), []
    model.out.note = "mine"
    model.out.register_forward_pre_hook(lambda _module, inputs: seen.append("before") or inputs)
    model.out.register_forward_hook(lambda _module, _inputs, output, **_named: output + 1, with_kwargs=False)
    model.rnn.register_forward_hook(lambda _module, _inputs, named, output: seen.append(named), with_kwargs=True)
    quantized, plain = native(model), native(Tagger())
    assert quantized.out.note == "mine"
    assert torch.equal(quantized(IDS), plain(IDS) + 1)
    assert seen == [{}, "before"]


def test_state_is_plain_tensors(quantized):
    state = quantized.state_dict()
    assert {type(value) for value in state.values()} == {torch.Tensor}
    assert {value.dtype for value in state.values()} == {torch.int8, torch.float32}
    assert {name for name in state if name.startswith("out")} == {"out.int8", "out.scale", "out.bias"}
    assert state["rnn.int8_hh_l1_reverse"].shape == (32, 8)
    assert state["cell.new_bias"].shape == (8,)
    assert not any(weight.requires_grad for weight in quantized.parameters())


def through_torch(model, other):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def through_safetensors(model, other, path):
    save_model(model, path)
    load_model(other, path)
    return other


@pytest.mark.parametrize("way", ["torch", "safetensors", "deepcopy", "pickle", "assign"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_way_to_save_keeps_the_bits(way, tied, tmp_path):
    models = [Tagger(seed) for seed in (0, 1)]
    quantized, other = (native(tie(model) if tied else model) for model in models)
    expected = quantized(IDS)
    assert not torch.equal(other(IDS), expected)  # and its weights are packed now
    match way:
        case "torch":
            other = through_torch(quantized, other)
        case "safetensors":
            other = through_safetensors(quantized, other, tmp_path / "model.safetensors")
        case "deepcopy":
            other = copy.deepcopy(quantized)
        case "pickle":
            other = pickle.loads(pickle.dumps(quantized))  # noqa: S301 # ours
        case "assign":
            other.load_state_dict(quantized.state_dict(), assign=True)
    assert torch.equal(other(IDS), expected)


def test_a_change_of_a_weight_is_seen():
    quantized = native(Tagger())
    expected = quantized(IDS)
    with torch.no_grad():
        quantized.out.scale.mul_(2)
        quantized.out.bias.mul_(2)
    assert torch.allclose(quantized(IDS), 2 * expected, rtol=1e-5)
    quantized.out.int8 = torch.zeros_like(quantized.out.int8)
    assert torch.equal(quantized(IDS), quantized.out.bias.expand(10, 2, 20))


def test_a_model_cast_to_half_precision_is_refused_when_it_reads():
    with pytest.raises(ValueError, match=r"expected torch\.float32"):
        native(Tagger()).half()(IDS)


def test_print_says_what_is_in_int8(quantized):
    assert "(rnn): Int8LSTM(8, 8, num_layers=2, bidirectional=True)" in str(quantized)
    assert "(out): Int8Linear(in_features=8, out_features=20, bias=True)" in str(quantized)
    assert str(Int8Linear(3, 4, bias=False)) == "Int8Linear(in_features=3, out_features=4, bias=False)"
