"""Laws of tied models, whose embedding and decoder share one matrix.

1. They stay tied when they are saved, loaded, copied, cast and trained, however the file says that they are tied.
2. Their matrix is counted once and stored once, in float32 and in int8-native.
3. Every scheme predicts for a tied model what it predicts for an untied one with the same weights.
"""

import copy

import pytest
import safetensors.torch
import torch
from torch import nn

from lstmq import (
    SCHEMES,
    LSTMModel,
    ModelConfig,
    TrainConfig,
    Trainer,
    batchify,
    evaluate,
    load_checkpoint,
    model_size,
    quantize,
    save_checkpoint,
)
from strategies import random_ids

CONFIG = ModelConfig(ntoken=500, ninp=32, nhid=32, nlayers=1, tied=True)
MATRIX = 500 * 32  # numbers
SLACK = 4_000  # bytes of headers and of the other tensors' padding


@pytest.fixture
def tied():
    return LSTMModel(CONFIG, torch.Generator().manual_seed(0)).eval()


@pytest.fixture
def untied(tied):
    """An untied model with the same weights."""
    model = LSTMModel(ModelConfig(ntoken=500, ninp=32, nhid=32, nlayers=1)).eval()
    model.load_state_dict(tied.state_dict())
    return model


def test_config_of_a_tied_model_needs_equal_widths():
    with pytest.raises(ValueError, match="a tied model needs equal widths, found ninp 8 and nhid 4"):
        ModelConfig(ntoken=9, ninp=8, nhid=4, tied=True)


def save_with_alias(state, path, kept, left_out):
    """Write a file as ``safetensors.torch.save_model`` does, which keeps either name."""
    metadata = {left_out: kept}
    safetensors.torch.save_file({name: value for name, value in state.items() if name != left_out}, path, metadata)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("model.pth", torch.save),
        ("copies.pth", lambda state, path: torch.save({key: value.clone() for key, value in state.items()}, path)),
        ("half.pth", lambda state, path: torch.save({key: value.half() for key, value in state.items()}, path)),
        ("kept.safetensors", lambda s, path: save_with_alias(s, path, "encoder.weight", "decoder.weight")),
        ("other.safetensors", lambda s, path: save_with_alias(s, path, "decoder.weight", "encoder.weight")),
    ],
)
def test_file_of_a_tied_model_loads_tied(tmp_path, tied, name, write):
    write(tied.state_dict(), tmp_path / name)
    loaded = load_checkpoint(tmp_path / name)
    assert loaded.config.tied
    assert loaded.decoder.weight is loaded.encoder.weight
    assert torch.equal(
        loaded.decoder.weight, tied.decoder.weight.half().float() if "half" in name else tied.decoder.weight
    )


def test_file_that_safetensors_saved_of_a_module_loads_tied_below_a_prefix_too(tmp_path, tied):
    safetensors.torch.save_model(nn.ModuleDict({"module": tied}), tmp_path / "m.safetensors")
    with pytest.warns(UserWarning, match="removed the prefix module. from its keys"):
        assert load_checkpoint(tmp_path / "m.safetensors").is_tied


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_saved_tied_model_has_its_matrix_once_and_can_be_read_by_others(tmp_path, tied, untied, suffix, by_hand):
    path = tmp_path / f"m{suffix}"
    if by_hand:
        untied.decoder.weight = untied.encoder.weight
    save_checkpoint(untied if by_hand else tied, path)
    others = sum(value.nbytes for value in tied.state_dict().values()) - 2 * 4 * MATRIX
    assert 0 < path.stat().st_size - others - 4 * MATRIX < SLACK
    if suffix == ".safetensors":
        assert safetensors.torch.load_model(copy.deepcopy(tied), path) == (set(), [])
    assert load_checkpoint(path).is_tied


@pytest.mark.parametrize(
    "change", [copy.deepcopy, lambda model: model.to(torch.bfloat16), lambda model: model.double()]
)
def test_tied_model_stays_tied_when_it_is_copied_or_cast(tied, change):
    assert change(tied).is_tied


def test_tied_model_stays_tied_when_it_is_trained(tied):
    trainer = Trainer(tied, random_ids(500, 400, 0), random_ids(500, 400, 1), TrainConfig(epochs=1, batch_size=4, lr=1))
    before = tied.encoder.weight.clone()
    list(trainer.run())
    assert tied.is_tied
    assert trainer.best_model().is_tied
    assert not torch.equal(before, tied.encoder.weight)


def test_model_size_counts_the_shared_matrix_once(tied, untied):
    size, other = model_size(tied), model_size(untied)
    assert 0 <= other.total - size.total - 4 * MATRIX < SLACK
    assert size.parts["encoder"] == other.parts["encoder"]
    assert size.parts["decoder"] < SLACK
    assert 0 < sum(size.parts.values()) - size.total < 3 * SLACK


def test_model_size_counts_a_matrix_once_that_any_two_modules_share():
    modules = nn.ModuleDict({"a": nn.Linear(100, 100), "b": nn.Linear(100, 100)})
    apart = model_size(modules)
    modules["b"].weight = modules["a"].weight
    assert 0 <= apart.total - model_size(modules).total - 40_000 < SLACK
    assert model_size(modules).parts["b"] < SLACK


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "bf16-compile"])
def test_scheme_predicts_for_a_tied_model_what_it_predicts_for_an_untied_one(tied, untied, scheme):
    if SCHEMES[scheme].missing():
        pytest.skip(SCHEMES[scheme].missing())
    source = batchify(random_ids(500, 300, 0), 2)
    one, other = quantize(tied, scheme), quantize(untied, scheme)
    assert evaluate(one, source, 25) == evaluate(other, source, 25)
    saved = {"bf16": 2 * MATRIX, "int8-native": MATRIX + 4 * 500}.get(scheme, 0)  # the others hold two different copies
    assert 0 <= model_size(other).total - model_size(one).total - saved < SLACK


def test_int8_native_of_a_model_that_was_tied_by_hand_has_one_matrix(untied):
    untied.decoder.weight = untied.encoder.weight
    native = quantize(untied, "int8-native")
    assert native.config.tied
    assert "decoder.weight" not in native.state_dict()
