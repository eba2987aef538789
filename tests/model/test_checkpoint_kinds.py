"""Laws of what people bring as a checkpoint.

1. A prefix that wrappers of torch give to every key is removed, with a note.
2. Any other file is refused in one line that says what the file is and what to do. The line never passes on torch's
   advice to load code.
"""

import argparse
import gzip
import io
import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from lstmq import Dictionary, load_checkpoint, quantize
from lstmq.errors import InputNote
from lstmq.model.checkpoint_file import CheckpointError
from lstmq.quantization.native import save_native


class Network(nn.Module):
    """A network with the tutorial's names, in the variants that people have."""

    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        sides = 2 if options.get("bidirectional") else 1
        self.encoder = nn.Embedding(20, 6)
        self.rnn = kind(6, 8, 2, **options)
        self.decoder = nn.Linear(sides * options.get("proj_size", 8), 20)


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert "weights_only" not in message
    return message.replace(str(path), "FILE")


def save(path, content):
    torch.save(content, path)
    return path


# Law 1.


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_uniform_prefix_is_removed_with_a_note(tmp_path, model, prefix, suffix):
    state, path = {f"{prefix}{key}": value for key, value in model.state_dict().items()}, tmp_path / f"m{suffix}"
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else save(path, state)
    with pytest.warns(InputNote, match=f"m{suffix}: removed the prefix {prefix} from its keys$"):
        loaded = load_checkpoint(path)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_prefix_that_only_some_keys_have_is_not_removed(tmp_path, model):
    state = dict(model.state_dict())
    state["module.decoder.bias"] = state.pop("decoder.bias")
    assert refusal(save(tmp_path / "m.pth", state)) == "FILE: missing the key decoder.bias"


def test_checkpoint_without_a_prefix_loads_without_a_note(tmp_path, model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(save(tmp_path / "m.pth", model.state_dict()))


# Law 2: state dicts of other networks, and dictionaries around state dicts.

LSTM = Network().state_dict()
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            Network(nn.GRU).state_dict(),
            "expected an LSTM as in the tutorial, found a GRU: measure other models with --w",
        ),
        (Network(nn.RNN).state_dict(), "found a plain RNN: measure"),
        (Network(bidirectional=True).state_dict(), "found a bidirectional LSTM: measure"),
        (Network(nn.GRU, bidirectional=True).state_dict(), "found a bidirectional GRU: measure"),
        (Network(proj_size=4).state_dict(), "found an LSTM with projections: measure"),
        (Network(bias=False).state_dict(), "found an LSTM without biases: measure"),
        ({"fc.weight": torch.ones(2, 2)}, "found the key fc.weight: rename the keys to the tutorial's, or measure"),
        (
            {f"generator.{key}": value for key, value in LSTM.items()},
            "found the key generator.encoder.weight: save the state dict of the part generator alone",
        ),
        (
            {key: value for key, value in LSTM.items() if key != "decoder.weight"},
            "if it is tied to encoder.weight, save model.state_dict(), which has both",
        ),
        (
            {"model": LSTM, "optimizer": OPTIMIZER, "epoch": 3},
            "found a dictionary with the keys model, optimizer, epoch, whose state dict is at ['model']: "
            "save that alone, torch.save(checkpoint['model'], 'weights.pth')",
        ),
        ({"state": {"net": LSTM}, "loss": 1.0}, "is at ['state']['net']: save that alone"),
        ({"model": LSTM, "ema": LSTM}, "is at ['model'] or ['ema']: save that alone"),
        (
            {"model": LSTM, "args": argparse.Namespace(lr=1)},  # which torch refuses to load
            "found a dictionary with the keys model, args, whose state dict is at ['model']",
        ),
        ({"state_dict": LSTM, "loss": np.float64(1.5)}, "is at ['state_dict']: save that alone"),
        ({"epoch": 3}, "found a dictionary with the key epoch, which is no state dict of plain tensors"),
        ([LSTM], "found a list: in the program that wrote it, save the weights alone, torch.save(model.state_dict()"),
        (quantize(Network()).state_dict(), "found the state dict of a model that torch quantized: pass the float32"),
        ({"two\nlines\x1b[31m": torch.ones(2, 2)}, r"found the key two\nlines\x1b[31m"),
    ],
)
def test_other_content_is_named_with_the_next_step(tmp_path, content, message):
    assert message in refusal(save(tmp_path / "other.pth", content))


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_whole_pickled_module_is_named_by_its_class(tmp_path, is_zip, protocol):
    path = tmp_path / "whole.pth"
    torch.save(Network(), path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    assert f"found a whole pickled object of the class {Network.__module__}.Network" in refusal(path)
    assert "torch.save(model.state_dict(), 'weights.pth')" in refusal(path)


def test_whole_quantized_module_is_named_by_its_class(tmp_path):
    assert "object of the class" in refusal(save(tmp_path / "whole.pth", quantize(Network())))


# Law 2: other files.


def torch_script():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    return buffer.getvalue()


def zip_of(names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return buffer.getvalue()


def saved(content, write):
    buffer = io.BytesIO()
    write(content, buffer)
    return buffer.getvalue()


TORCH_FILE = saved(LSTM, torch.save)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "FILE is empty: expected a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "found a Git LFS pointer"),
        (b"\n<!DOCTYPE HTML><html>404 Not Found</html>", "found an HTML page, perhaps an error or a login: download"),
        (b"\xef\xbb\xbf<html lang=en>", "found an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "found an XML or HTML document"),
        (json.dumps({"weight_map": {}}).encode(), "found a JSON document: pass the file with the weights"),
        (b"hello, \x1b[31mworld", r"found text that starts with hello, \x1b[31mworld"),
        (gzip.compress(TORCH_FILE), "found a gzip file: unpack it first"),
        (zip_of(["readme.txt", "model.pth"]), "found a zip archive with readme.txt, model.pth: pass the checkpoint"),
        (saved(np.ones(3), lambda array, file: np.save(file, array)), "found a NumPy array"),
        (saved(np.ones(3), lambda array, file: np.savez(file, a=array)), "found a NumPy archive with a.npy"),
        (b"\x08\x08\x12\x07pytorch\x1a\x032.1:\x90", "found an ONNX model, by its first bytes"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "found an HDF5 file"),
        (torch_script(), "found a TorchScript archive: save its weights, model = torch.jit.load(FILE); torch.save("),
        (zip_of(["m/archive_format", "m/models/model.json"]), "found a program of torch.export"),
        (TORCH_FILE[:-1], "found a damaged or cut zip archive, such as torch writes: copy or download it"),
        (TORCH_FILE[:30], "found a damaged or cut zip archive"),
        (safetensors.torch.save(LSTM)[:-1], "found a damaged or cut safetensors file"),
        (b"\x08", "found another kind of file, or a damaged one"),
        (pickle.dumps(LSTM), "found a plain pickle: in the program that wrote it, save the weights alone, torch.save("),
        (pickle.dumps([1, 2]), "found a list: in the program that wrote it, save the weights alone"),
        (bytes(100), "found another kind of file, or a damaged one: copy or download it again"),
        (b"\x89PNG\r\n\x1a\n", "found a PNG image"),
    ],
)
def test_other_file_is_named_with_the_next_step(tmp_path, content, message):
    (tmp_path / "other.pth").write_bytes(content)
    assert message in refusal(tmp_path / "other.pth")


def test_int8_native_file_is_named_with_the_next_step(tmp_path, model):
    words = Dictionary(f"word{i}" for i in range(model.config.ntoken))
    save_native(quantize(model, "int8-native"), words, tmp_path / "m.safetensors")
    assert "found a file in the format lstmq int8-native: pass the float32 " in refusal(tmp_path / "m.safetensors")


def test_pipe_and_device_are_refused_without_reading_them(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (Path(os.devnull), "a device"), (tmp_path, "a folder")):
        with pytest.raises(OSError, match=f"{path}: expected a file, found {kind}"):
            load_checkpoint(path)
