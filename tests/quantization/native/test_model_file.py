"""Laws of files of int8 models: a file that is read holds what was written; anything else raises a one-line error."""

import copy
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lstmq import LSTMModel, ModelConfig, load_int8, quantize, save_int8
from lstmq.quantization.native import NativeModel


class Decoder(nn.Module):
    """Reads ids, shape ``(n, bsz)``, with a convolution, a GRU cell, and a buffer that is no weight."""

    def __init__(self, width=8, tied=True, seed=1):
        super().__init__()
        torch.manual_seed(seed)
        self.emb, self.conv = nn.Embedding(20, width), nn.Conv1d(width, width, 1)
        self.cell, self.out = nn.GRUCell(width, width), nn.Linear(width, 20)
        self.last = nn.Linear(20, 20)
        if tied:
            self.out.weight = self.emb.weight
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]).repeat(10))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, ids):
        state, outputs = None, []
        for step in self.conv(self.emb(ids).transpose(1, 2)).transpose(1, 2):
            state = self.cell(step, state)
            outputs.append(self.out(state))
        return self.last(torch.stack(outputs)) + self.mask


IDS = torch.arange(20).view(10, 2)
config = ModelConfig(ntoken=30, ninp=6, nhid=6, nlayers=2, tied=True)


@pytest.fixture(scope="module")
def quantized():
    return quantize(Decoder(seed=0), "int8-native", keep=["last"])


@pytest.fixture
def path(tmp_path, quantized):
    save_int8(quantized, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def refusal(path, skeleton):
    """Return the message with which a file is refused. It is one line that begins with the path."""
    before = copy.deepcopy(skeleton.state_dict())
    with pytest.raises(ValueError, match=r"^.+$") as error:
        load_int8(path, skeleton)
    assert all(torch.equal(before[name], value) for name, value in skeleton.state_dict().items())
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 600
    return message


def test_model_that_is_read_is_the_one_that_was_written(quantized, path):
    loaded = load_int8(path, Decoder())
    assert loaded.state_dict().keys() == quantized.state_dict().keys()
    assert all(torch.equal(value, quantized.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert torch.equal(loaded(IDS), quantized(IDS))
    assert loaded.out.int8 is loaded.emb.int8
    assert type(loaded.last) is nn.Linear
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_file_has_each_tensor_once_and_says_what_is_in_int8(path):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["modules"]) == {
        "emb": "Int8Embedding(20, 8)",
        "cell": "Int8GRUCell(8, 8)",
        "out": "Int8Linear(in_features=8, out_features=20, bias=True)",
    }
    state = load_file(path)
    assert "emb.int8" in state
    assert "out.int8" not in state
    assert path.stat().st_size == save_int8(load_int8(path, Decoder()), path)


@pytest.mark.parametrize(
    "root",
    [nn.LSTM(4, 5, 2, bidirectional=True, proj_size=3), nn.GRU(4, 5, bias=False), nn.LSTMCell(4, 5), nn.Linear(4, 5)],
)
def test_a_model_may_be_one_module(root, tmp_path):
    quantized = quantize(root, "int8-native")
    save_int8(quantized, tmp_path / "m")
    skeleton = copy.deepcopy(root)
    nn.init.zeros_(next(skeleton.parameters()))
    loaded = load_int8(tmp_path / "m", skeleton)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in quantized.state_dict().items())


def test_language_model_is_read_with_its_fused_engine(tmp_path):
    quantized = quantize(LSTMModel(config), "int8-native")
    save_int8(quantized, tmp_path / "m")
    loaded = load_int8(tmp_path / "m", LSTMModel(config))
    assert type(loaded) is NativeModel
    hidden = loaded.init_hidden(2)
    assert torch.equal(loaded(IDS, hidden)[0], quantized(IDS, hidden)[0])


def test_a_model_of_float32_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r'expected a model that quantize\(..., "int8-native"\) made, found Decoder'):
        save_int8(Decoder(), tmp_path / "m")
    assert not any(tmp_path.iterdir())


def test_state_that_is_no_tensor_is_not_written(tmp_path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"version": 1}

    model = quantize(nn.Sequential(nn.Linear(2, 2), Extra(2, 2)), "int8-native", keep=["1"])
    with pytest.raises(ValueError, match=r"1\._extra_state: expected a tensor in the state dict, found dict"):
        save_int8(model, tmp_path / "m")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("skeleton", "message"),
    [
        (Decoder(width=9), "'emb' in the file is 'Int8Embedding(20, 8)', in the skeleton 'Int8Embedding(20, 9)'"),
        (Decoder(tied=False), "expected 17 tensors, found 15; the first difference is 'out.int8'"),
        (nn.LSTM(3, 4), "the skeleton, a LSTM, has no module 'emb'"),
        (LSTMModel(config), "the skeleton, a LSTMModel, has no module 'emb'"),
        (quantize(Decoder(), "int8-native"), "expected a skeleton in float32, found modules in int8"),
    ],
)
def test_another_skeleton_is_refused(path, skeleton, message):
    assert message in refusal(path, skeleton)


def test_skeleton_without_memory_is_refused(path):
    with torch.device("meta"):
        skeleton = Decoder()
    with pytest.raises(ValueError, match=r"emb\.weight is torch\.float32 on meta: expected float32 on the CPU"):
        load_int8(path, skeleton)


def rewrite(path, tensors=(), metadata=()):
    """Change tensors and metadata of a file."""
    with safe_open(path, framework="pt") as file:
        known = file.metadata()
    save_file(load_file(path) | dict(tensors), path, known | dict(metadata))


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({}, {"format": "pt"}, "expected a file in the format lstmq int8 modules, found 'pt'"),
        ({}, {"version": "2"}, "expected version 1 of lstmq int8 modules, found '2'"),
        ({}, {"version": "\x1b[2J\n" * 200}, "expected version 1"),
        ({}, {"modules": "{"}, "expected modules by their names, found '{'"),
        ({}, {"modules": "[" * 100_000}, "expected modules by their names, found '[[["),
        ({}, {"modules": '{"emb": 3}'}, "expected modules by their names"),
        ({}, {"modules": "{}"}, "expected modules in int8, found none"),
        ({}, {"modules": '{"nothing\\n": "Int8Linear"}'}, r"has no module 'nothing\n'"),
        ({}, {"modules": '{"conv": "Int8Linear"}'}, "'conv' in the file is 'Int8Linear', in the skeleton 'Conv1d'"),
        ({"emb.int8": torch.full((20, 8), -128, dtype=torch.int8)}, {}, "emb.int8: expected integers from -127 to 127"),
        ({"emb.scale": torch.full((20,), torch.nan)}, {}, "emb.scale: expected finite numbers, found NaN"),
        ({"emb.scale": torch.full((20,), -1.0)}, {}, "emb.scale: expected scales of at least 0"),
        ({"cell.gate_bias": torch.zeros(8)}, {}, "cell.gate_bias: expected torch.float32 of shape (24,)"),
        ({"cell.int8_hh": torch.zeros(24, 8)}, {}, "cell.int8_hh: expected torch.int8 of shape (24, 8)"),
        ({"conv.bias": torch.zeros(8, dtype=torch.float64)}, {}, "conv.bias: expected torch.float32"),
        ({"other": torch.zeros(1)}, {}, "expected 15 tensors, found 16; the first difference is 'other'"),
    ],
)
def test_wrong_files_are_refused_in_one_line(path, tensors, metadata, message):
    rewrite(path, tensors, metadata)
    assert message in refusal(path, Decoder())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.data())
def test_cut_files_are_refused_in_one_line(path, tmp_path, data):
    content = path.read_bytes()
    (tmp_path / "cut").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    refusal(tmp_path / "cut", Decoder())


def test_files_of_other_kinds_are_refused_in_one_line(tmp_path):
    torch.save(Decoder().state_dict(), tmp_path / "m.pt")
    refusal(tmp_path / "m.pt", Decoder())
    with pytest.raises(OSError, match="expected a file, found a folder"):
        load_int8(tmp_path, Decoder())
