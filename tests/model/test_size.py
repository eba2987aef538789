"""Laws of size: it is the file's bytes, and it is the tutorial's figure."""

import torch
from hypothesis import given, settings

from lstmq import LSTMModel, ModelConfig, model_size, quantize
from strategies import models


@settings(max_examples=30)
@given(models(max_width=40))
def test_the_size_is_the_files_bytes(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("size")
    for candidate in (model, quantize(model)):
        for part, expected in {None: candidate, "encoder": candidate.encoder, "rnn": candidate.rnn}.items():
            with (folder / "file").open("wb") as file:
                torch.save(expected.state_dict(), file)
            size = model_size(candidate)
            assert (size.parts[part] if part else size.total) == (folder / "file").stat().st_size


def test_the_tutorials_shape_has_the_tutorials_sizes():
    """The tutorial printed 113.943637 and 79.738057 MB; its file's name was another, and torch pads after names."""
    model = LSTMModel(ModelConfig())
    size, quantized = model_size(model), model_size(quantize(model))
    assert f"{size.megabytes:.2f} {quantized.megabytes:.2f}" == "113.95 79.74"
    assert list(size.parts) == list(quantized.parts) == ["encoder", "rnn", "decoder"]
    assert 0 < sum(size.parts.values()) - size.total < 4_096
    assert size.parts["encoder"] == quantized.parts["encoder"]
    assert size.parts["decoder"] > 3.9 * quantized.parts["decoder"]
    assert model_size(quantize(model, "int8-embedding")).megabytes < 29
    assert model_size(quantize(model, "bf16")).megabytes < 57
