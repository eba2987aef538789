"""The law of kernels: whatever computes, on whatever processor, gives the reference's very bits.

AMX, which few processors have, is emulated in C where it is not here: its tiles' arithmetic, not its speed.
"""

import ctypes
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig
from lstmq.quantization.native import kernels, model, reference
from lstmq.quantization.native.kernels import KERNEL_ISAS, REFERENCE, PackedModel, pack_matrix
from lstmq.quantization.native.reference import LSTMLayer, QuantizedRows, quantize_rows
from strategies import seeds, stream

HERE = Path(__file__).parent
SOURCES = HERE.parent / "lstmq" / "csrc"
SANITIZE = os.environ.get("SANITIZE", "").split()
FLAGS = "-O2 -std=gnu11 -ffp-contract=off -fno-trapping-math -fno-math-errno -fPIC -shared".split()
FLAGS += "-Wall -Wextra -Werror -Wno-unknown-pragmas".split()
pytestmark = pytest.mark.skipif(kernels.load_library() is None, reason="the kernels were not built")
assert kernels.load_library() or not SANITIZE, "nothing to watch: the kernels were not built"
BUILT = [isa for isa in KERNEL_ISAS if isa in kernels.available_isas()]


def compiled(folder, *more):
    """Return the library, compiled as the variable SANITIZE says, and with any warning an error."""
    path = folder / "kernels.so"
    sources = [source for source in sorted(SOURCES.glob("*.c")) if source.name != "module.c"]
    subprocess.run([shutil.which("gcc"), *FLAGS, *SANITIZE, *more, "-o", path, *sources, "-lm"], check=True)
    return kernels.open_library(str(path))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The library that is installed, or compiled anew if it is to be watched."""
    return compiled(tmp_path_factory.mktemp("sanitized")) if SANITIZE else kernels.load_library()


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """The library with AMX's tiles in plain C."""
    if not shutil.which("gcc") or "avx512_vnni" not in BUILT:
        pytest.skip("AMX is emulated by gcc, on a processor with AVX512-VNNI")
    header = HERE / "amx" / "emulated.h"
    return compiled(tmp_path_factory.mktemp("emulated"), f'-DLSTMQ_EMULATE_AMX="{header}"')


@pytest.fixture(params=[*BUILT, "amx_int8 emulated"])
def isa(request, monkeypatch):
    """Whatever computes here, as the variable names it."""
    name, *how = request.param.split()
    library = request.getfixturevalue("emulated" if how else "sanitized")
    monkeypatch.setattr(kernels, "library", lambda: library)
    monkeypatch.setenv(kernels.ISA_VARIABLE, name)
    return name


@st.composite
def cases(draw):
    """A model of any shape, some of its weights gone wild; ids, targets and a state."""
    widths = st.integers(1, 40) | st.sampled_from([63, 64, 65, 128, 130])
    config = ModelConfig(
        ntoken=draw(st.integers(2, 150) | st.sampled_from([255, 256, 257, 520])),
        ninp=draw(widths),
        nhid=draw(widths),
        nlayers=draw(st.integers(1, 3)),
    )
    seed = draw(seeds)
    generator = torch.Generator().manual_seed(seed)
    model = LSTMModel(config, generator)
    state = model.state_dict()
    name, other = (draw(st.sampled_from(sorted(state))) for _ in range(2))
    match draw(st.sampled_from(["as it comes", "zero", "a row of zeros", "huge", "all large", "tiny"])):
        case "zero":
            state[name].zero_()
        case "a row of zeros":
            state[name][draw(st.integers(0, len(state[name]) - 1))] = 0
        case "huge":
            state[name].view(-1)[draw(st.integers(0, state[name].numel() - 1))] = 1e6
        case "all large":  # gates saturate
            state[name] *= 1e3
            state[other] *= -1e3
        case "tiny":
            state[name] *= 1e-36
    n, bsz = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    ids, targets = (stream(config.ntoken, n * bsz, seed + i).view(n, bsz) for i in (0, 1))
    shape = (config.nlayers, bsz, config.nhid)
    h, c = (torch.randn(shape, generator=generator) * draw(st.sampled_from([0.0, 1.0, 30.0])) for _ in "hc")
    return model.quantize_native(model), ids, targets, (h.clamp(-1, 1), c)


def by_reference(model, ids, hidden):
    encoder, layers, decoder, bias = model._weights()
    read, after = reference.run_layers(encoder, layers, ids, hidden)
    return (reference.matmul(read, decoder) + bias).view(*ids.shape, -1), after


@given(case=cases())
@settings(max_examples=150)
def check_the_bits(case):
    model, ids, targets, hidden = case
    before = [each.clone() for each in hidden]
    logits, state = by_reference(model, ids, hidden)
    told, after = model(ids, hidden)
    loss, after_loss = model.window_loss(ids, targets, hidden)
    assert torch.equal(told, logits)
    for found in (after, after_loss):
        assert all(map(torch.equal, found, state))
    assert all(map(torch.equal, hidden, before))
    expected = F.cross_entropy(logits.double().flatten(0, 1), targets.flatten(), reduction="sum").item()
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_every_kernel_gives_the_references_bits(isa):
    check_the_bits()


@pytest.mark.parametrize("seed", range(3))
def test_so_at_the_tutorials_widths_and_more_rows_than_a_tile(isa, seed):
    config = ModelConfig(ntoken=1_000, ninp=512, nhid=256, nlayers=2)
    model = model.quantize_native(LSTMModel(config, torch.Generator().manual_seed(seed)))
    ids = stream(1_000, 39 * 2, seed).view(39, 2)
    logits, state = by_reference(model, ids, model.init_hidden(2))
    told, after = model(ids, model.init_hidden(2))
    assert torch.equal(told, logits)
    assert all(map(torch.equal, after, state))


def call(name, *arguments):
    """Call a stage of the kernels: tensors and arrays as pointers."""
    getattr(kernels.load_library(), name)(
        *(ctypes.c_void_p(each.data_ptr()) if isinstance(each, torch.Tensor) else each for each in arguments)
    )


@given(
    width=st.integers(1, 200),
    seed=seeds,
    scale=st.sampled_from([0.0, 1e-38, 1e-31, 1.0, 1e30]),
    ties=st.booleans(),
)
def check_quantizing(place, width, seed, scale, ties):
    x = torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) * scale
    if ties:  # half a step off everywhere
        x = torch.randint(-127, 127, (1, width), generator=torch.Generator().manual_seed(seed)) + 0.5
        x[0, 0] = 127
    padded = -(-width // 64) * 64
    integers, found = torch.full((padded,), 99, dtype=torch.int8), torch.zeros(1)
    call("lstmq_quantize", place, x, ctypes.c_int64(width), ctypes.c_int64(padded), integers, found)
    expected = quantize_rows(x)
    assert torch.equal(integers[:width], expected.integers[0])
    assert not integers[width:].any()
    assert found.item() == expected.scale.item()


@given(rows=st.integers(1, 40), width=st.integers(1, 200), height=st.integers(1, 200), seed=seeds, full=st.booleans())
def check_products(place, rows, width, height, seed, full):
    """Exact in the integers, of which the largest sums are of nothing but 127."""
    generator = torch.Generator().manual_seed(seed)
    x, w = (torch.randint(-127, 128, (each, width), generator=generator, dtype=torch.int8) for each in (rows, height))
    if full:
        x, w = torch.full_like(x, -127), torch.full_like(w, 127)
    one = torch.ones(rows)
    kept = []
    matrix = pack_matrix(QuantizedRows(w, torch.ones(height)), torch.zeros(height), 1, 0.0, kept)
    padded = F.pad(x, (0, matrix.depth - width)).contiguous()
    out = torch.empty(rows, matrix.blocks * kernels.BLOCK)
    call("lstmq_product", place, padded, one, ctypes.c_int64(rows), ctypes.byref(matrix), out)
    exact = x.numpy().astype(np.int64) @ w.numpy().astype(np.int64).T
    assert (out[:, :height].numpy() == exact.astype(np.float32)).all()


def test_every_kernel_rounds_as_the_reference_does(isa):
    check_quantizing(KERNEL_ISAS.index(isa))


def test_every_kernels_products_are_exact(isa):
    check_products(KERNEL_ISAS.index(isa))


def test_two_threads_at_once_give_what_each_gives_alone(isa, model, in_two_threads):
    if "emulated" in os.environ.get("PYTEST_CURRENT_TEST", ""):
        pytest.skip("the emulation has but one set of tiles")
    at_once, alone = in_two_threads(model.quantize_native(model))
    assert at_once == alone


@pytest.mark.parametrize(
    ("ids", "targets", "bsz", "dtype", "message"),
    [
        ([[30]], [[0]], 1, torch.float32, "expected ids from 0 to 29, found another"),
        ([[-1]], [[0]], 1, torch.float32, "expected ids from 0 to 29, found another"),
        ([[0]], [[30]], 1, torch.float32, "expected ids from 0 to 29, found another"),
        ([[0], [1]], [[0]], 1, torch.float32, r"expected torch.int64 of shape \(2, 1\) .*, found .* shape \(1, 1\)"),
        ([0], [0], 1, torch.float32, r"expected ids of shape \(n, bsz\), found \(1,\)"),
        ([[]], [[]], 1, torch.float32, r"expected ids of shape \(n, bsz\), found \(1, 0\)"),
        ([[0.5]], [[0]], 1, torch.float32, "expected torch.int64"),
        ([[0]], [[0]], 2, torch.float32, r"expected torch.float32 of shape \(2, 1, 8\)"),
        ([[0]], [[0]], 1, torch.float64, r"expected torch.float32 of shape .*, found torch.float64"),
    ],
)
def test_nothing_of_a_wrong_size_reaches_a_kernel(isa, model, ids, targets, bsz, dtype, message):
    quantized = model.quantize_native(model)
    h, c = quantized.init_hidden(bsz)
    with pytest.raises(ValueError, match=message):
        quantized.window_loss(torch.tensor(ids), torch.tensor(targets), (h.to(dtype), c.to(dtype)))


def test_weights_of_another_shape_are_not_packed(model):
    encoder, layers, decoder, bias = model.quantize_native(model)._weights()
    config = model.config
    for wrong, message in (
        ((replace(config, ntoken=29), encoder, layers, decoder, bias), r"of shape \(29, 16\)"),
        ((replace(config, nhid=9), encoder, layers, decoder, bias), r"of shape \(30, 9\)"),
        ((config, encoder, [*layers[:1], LSTMLayer(*layers[1][:2], bias)], decoder, bias), "of shape"),
        ((config, encoder, layers[:1], decoder, bias), "expected 2 layers, found 1"),
        ((replace(config, ninp=2**16 + 1), encoder, layers, decoder, bias), "at most 65,536 columns, found 65,537"),
    ):
        with pytest.raises(ValueError, match=message):
            PackedModel(*wrong)


@pytest.mark.parametrize("change", [{"dtype": torch.bfloat16}, {"dtype": torch.float64}, {"device": "meta"}])
def test_torchs_defaults_change_nothing(isa, model, change):
    quantized, ids = model.quantize_native(model), stream(30, 20, 0).view(20, 1)
    hidden = quantized.init_hidden(1)
    expected, _ = quantized(ids, hidden)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(change.get("dtype", before))
        with torch.device(change.get("device", "cpu")):
            told, _ = quantized(ids, hidden)
            loss, _ = quantized.window_loss(ids, ids, hidden)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(told, expected)
    assert loss.item() > 0


def test_other_weights_are_packed_anew(isa, model):
    other = LSTMModel(model.config, torch.Generator().manual_seed(1))
    quantized, expected = model.quantize_native(model), model.quantize_native(other)
    ids, hidden = stream(30, 20, 0).view(20, 1), quantized.init_hidden(1)
    quantized(ids, hidden)
    quantized.load_state_dict(expected.state_dict())
    assert torch.equal(quantized(ids, hidden)[0], expected(ids, hidden)[0])
    with pytest.raises(ValueError, match=r"expected torch\.float32"):
        quantized.half()(ids, hidden)


def test_only_what_runs_here_is_called(model):
    packed = model.quantize_native(model)._pack()
    ids = torch.zeros(1, 1, dtype=torch.int64)
    for wrong in {"reference", "sse9", *KERNEL_ISAS} - {*BUILT}:
        with pytest.raises(ValueError, match=f"expected one of {', '.join(BUILT)}, found '{wrong}'"):
            packed.logits(wrong, ids, model.init_hidden(1))


def test_what_computes_is_the_fastest_or_what_is_asked_for(monkeypatch):
    monkeypatch.delenv(kernels.ISA_VARIABLE, raising=False)
    assert kernels.selected_isa() == kernels.available_isas()[-1]
    assert kernels.available_isas()[:2] == [REFERENCE, "portable"]
    for name in kernels.available_isas():
        monkeypatch.setenv(kernels.ISA_VARIABLE, name)
        assert kernels.selected_isa() == name
    for wrong in ("", "sse9"):
        monkeypatch.setenv(kernels.ISA_VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"LSTMQ_ISA: expected one of reference, portable.*, found '{wrong}'"):
            kernels.selected_isa()


def test_what_this_processor_has_is_what_linux_says():
    flags = Path("/proc/cpuinfo")
    if not flags.exists():
        pytest.skip("not Linux")
    words = set(flags.read_text(encoding="utf-8").split())
    assert ("avx2" in BUILT) == ("avx2" in words)
    assert ("avx512_vnni" in BUILT) == ("avx512_vnni" in words and "avx512dq" in words)
    assert ("amx_int8" in BUILT) <= ("amx_int8" in words)
