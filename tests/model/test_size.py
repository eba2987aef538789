"""Laws of sizes: they are the bytes of a file, and they are the tutorial's."""

import pytest
import torch
from hypothesis import given, settings

from lstmq import LSTMModel, ModelConfig, model_size, quantize
from strategies import models


@settings(max_examples=8)
@given(models(max_width=40))
def test_model_size_equals_the_bytes_of_a_saved_file(tmp_path_factory, model):
    path = tmp_path_factory.getbasetemp() / "size"
    for candidate in (model, quantize(model)):
        size = model_size(candidate)
        for module, expected in ((candidate, size.total), (candidate.rnn, size.parts["rnn"])):
            with path.open("wb") as file:  # given a path, torch would write its name into the file
                torch.save(module.state_dict(), file)
            assert path.stat().st_size == expected


@pytest.mark.slow
def test_model_size_of_the_tutorials_shape_is_what_the_tutorial_prints():
    """The tutorial prints 113.943637 and 79.738057 MB. Its file has another name, and torch pads after names."""
    model = LSTMModel(ModelConfig())
    size, quantized = model_size(model), model_size(quantize(model))
    assert f"{size.megabytes:.2f} {quantized.megabytes:.2f}" == "113.95 79.74"
    assert list(size.parts) == list(quantized.parts) == ["encoder", "rnn", "decoder"]
    assert 0 < sum(size.parts.values()) - size.total < 4_096
    assert size.parts["encoder"] == quantized.parts["encoder"]
    assert size.parts["decoder"] > 3.9 * quantized.parts["decoder"]
    assert model_size(quantize(model, "int8-embedding")).megabytes < 29
    assert model_size(quantize(model, "bf16")).megabytes < 57
