"""Laws of int8-native files: a file that is read holds what was written; anything else raises a one-line error."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lstmq import Dictionary, LSTMModel, batchify, evaluate
from lstmq.quantization.native import file
from lstmq.quantization.native.file import is_native_file, load_native, save_native
from lstmq.quantization.native.model import quantize_native
from lstmq.quantization.native.weights import state_spec
from strategies import configs, random_ids, seeds

overwriting = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example writes its own file


def dictionary_of(count):
    return Dictionary(f"word{i}" for i in range(count))


@pytest.fixture
def path(model, dictionary, tmp_path):
    """A file of ``model``."""
    save_native(quantize_native(model), dictionary, tmp_path / "m.int8.safetensors")
    return tmp_path / "m.int8.safetensors"


@overwriting
@given(config=configs(), seed=seeds)
def test_load_native_returns_the_model_that_save_native_wrote(tmp_path, config, seed):
    model, path = quantize_native(LSTMModel(config, torch.Generator().manual_seed(seed))), tmp_path / "model"
    save_native(model, dictionary_of(config.ntoken), path)
    assert is_native_file(path)
    copy = load_native(path, dictionary_of(config.ntoken))
    assert copy.config == config
    assert all(torch.equal(copy.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    source = batchify(random_ids(config.ntoken, 40, seed), 1)
    assert evaluate(copy, source, 25) == evaluate(model, source, 25)


def test_saved_file_is_plain_safetensors(path, model):
    state = load_file(path)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()} == state_spec(model.config)


@overwriting
@given(data=st.data())
def test_load_native_of_a_damaged_file_raises_one_line_or_returns_a_model_of_the_same_shape(path, dictionary, data):
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 900))  # the first 900 bytes are the header
    damage = b"" if data.draw(st.booleans()) else data.draw(st.binary(min_size=1, max_size=9))
    damaged = path.with_name("damaged")
    damaged.write_bytes(whole[:place] + damage + (whole[place + len(damage) :] if damage else b""))
    if not is_native_file(damaged):
        return
    try:
        model = load_native(damaged, dictionary)
    except ValueError as error:
        assert "\n" not in str(error)
        assert str(damaged) in str(error)
    else:
        assert model.config.ntoken == 30
        evaluate(model, batchify(random_ids(30, 30, 0), 1), 25)


@pytest.mark.parametrize("count", [29, 30])
def test_load_native_refuses_a_file_of_another_vocabulary(path, count):
    with pytest.raises(ValueError, match="is of another vocabulary: it knows 30 words"):
        load_native(path, dictionary_of(count))


CONFIG = {"ntoken": 30, "ninp": 16, "nhid": 8, "nlayers": 2, "dropout": 0.5}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"decoder.scale": None}, {}, "expected 15 tensors, found 14; the first difference is 'decoder.scale'"),
        ({"more": torch.zeros(1)}, {}, "expected 15 tensors, found 16; the first difference is 'more'"),
        ({"a\nb": torch.zeros(1)}, {}, r"the first difference is 'a\\nb'"),
        (
            {"decoder.bias": torch.zeros(29)},
            {},
            r"decoder.bias: expected .* shape \(30,\) .*, found .* of shape \(29,\)",
        ),
        ({"encoder.weight": torch.zeros(30, 16)}, {}, "expected torch.int8 of shape .* found torch.float32"),
        ({"encoder.scale": torch.full((30,), torch.nan)}, {}, "encoder.scale: expected finite numbers"),
        ({"decoder.bias": torch.full((30,), -torch.inf)}, {}, "decoder.bias: expected finite numbers"),
        ({"encoder.scale": torch.full((30,), -1.0)}, {}, "encoder.scale: expected scales of at least 0"),
        ({"decoder.weight": torch.full((30, 8), -128, dtype=torch.int8)}, {}, "decoder.weight: .* from -127 to 127"),
        ({}, {"version": "2"}, "expected version 1 of lstmq int8-native, found '2'"),
        ({}, {"version": "2\n\x1b[2J" * 99}, "expected version 1 of lstmq int8-native, found '2"),
        ({}, {"config": json.dumps(CONFIG)[:-4] + "1" + "0" * 400 + "}"}, "expected a model configuration"),
        ({}, {"config": "[" * 200_000}, "expected a model configuration"),
        ({}, {"config": '{"a":' + "[" * 200_000}, "expected a model configuration"),
        ({}, {"config": "{"}, "expected a model configuration, found '{'"),
        ({}, {"config": "[1]"}, "expected a model configuration"),
        ({}, {"config": json.dumps(CONFIG | {"nhid": "8"})}, "expected a model configuration"),
        ({}, {"config": json.dumps(CONFIG | {"nhid": 0})}, "nhid must be at least 1, found 0"),
        ({}, {"config": json.dumps(CONFIG | {"nhid": 9})}, "expected torch.int8 of shape"),
        ({}, {"config": json.dumps(CONFIG | {"nlayers": 10**12})}, "expected 1,000,000,000,000 layers, found 15"),
        ({}, {"config": json.dumps(CONFIG | {"ntoken": 10**12})}, "expected torch.int8 of shape"),
    ],
)
def test_load_native_refuses_a_file_that_contradicts_its_metadata(path, dictionary, tensors, metadata, message):
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata() | metadata
    state = {name: tensor for name, tensor in (load_file(path) | tensors).items() if tensor is not None}
    save_file(state, path, metadata)
    with pytest.raises(ValueError, match=message) as caught:
        load_native(path, dictionary)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


def test_save_native_keeps_no_file_that_reads_back_differently(model, dictionary, tmp_path, monkeypatch):
    other = quantize_native(LSTMModel(model.config, torch.Generator().manual_seed(9)))
    monkeypatch.setattr(file, "load_native", lambda path, dictionary: other)
    with pytest.raises(ValueError, match="not written, because reading it back gave other numbers"):
        save_native(quantize_native(model), dictionary, tmp_path / "m")
    assert not [*tmp_path.iterdir()]


def test_is_native_file_is_false_for_other_files(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("{" * 99)
    save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    assert not any(map(is_native_file, [*tmp_path.iterdir(), tmp_path / "missing", tmp_path]))
