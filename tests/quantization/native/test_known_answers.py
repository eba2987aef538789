"""Laws of the check before a kernel is used: it knows the reference's bits, and finds a kernel that gives others."""

import pytest
import torch

from lstmq import batchify, evaluate, quantize
from lstmq.quantization.native import library, reference
from lstmq.quantization.native.known_answers import KNOWN_DIGESTS
from lstmq.quantization.native.library import ISA_VARIABLE, PORTABLE, REFERENCE, available_isas, selected_isa
from lstmq.quantization.native.reference import quantize_rows, sigmoid, tanh
from lstmq.quantization.native.weights import QuantizedRows, RecurrentWeights
from strategies import random_ids

HEIGHT, DEPTH, ROWS, WIDTH, UNITS, LOGITS, BLOCK = 128, 128, 35, 100, 48, 320, 64  # as in csrc/known_answers.c


class Numbers:
    """The sequence of numbers of ``known_answers.c``."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return self.state

    def bytes(self, *shape):
        count = torch.Size(shape).numel()
        return torch.tensor([(self.next() >> 24) % 255 - 127 for _ in range(count)], dtype=torch.int8).view(shape)

    def floats(self, *shape):
        count = torch.Size(shape).numel()
        return torch.tensor([((self.next() >> 8) - 2**23) / 2**20 for _ in range(count)]).view(shape)


def digest(*tensors):
    """Return the digest of the tensors' 32-bit words."""
    total = 0xCBF29CE484222325
    for tensor in tensors:
        for word in tensor.contiguous().flatten().view(torch.int32).tolist():
            total = (total ^ word % 2**32) * 0x100000001B3 % 2**64
    return total


def rows():
    """Return the digest of quantized rows, as the reference computes it."""
    numbers, found = Numbers(0), []
    for i in range(32):
        values = numbers.floats(1, WIDTH) * [1.0, 1e30, 1e-38, 0.0][i % 4]
        if i == 31:
            values[0, WIDTH // 2] = torch.nan
        row = quantize_rows(values)
        found += [torch.nn.functional.pad(row.integers, (0, DEPTH - WIDTH)), row.scale]
    return digest(*found)


def products():
    """Return the digest of products, as the reference computes it."""
    numbers = Numbers(1)
    weights = torch.full((HEIGHT // BLOCK, DEPTH // 4, BLOCK, 4), 127, dtype=torch.int8)
    for block in range(HEIGHT // BLOCK):
        for group in range(DEPTH // 4):
            first = 1 if block == 0 else 0  # row 0 holds only 127
            weights[block, group, first:] = numbers.bytes(BLOCK - first, 4)
    w = weights.transpose(1, 2).reshape(HEIGHT, DEPTH)
    x = torch.cat([torch.full((1, DEPTH), -127, dtype=torch.int8), numbers.bytes(ROWS - 1, DEPTH)])
    scale, x_scale, add = numbers.floats(HEIGHT), numbers.floats(ROWS), numbers.floats(ROWS, HEIGHT)
    found = []
    for i, count in enumerate([1, 2, 3, 4, 5, 6, 17, ROWS]):
        product = reference.matmul(QuantizedRows(x[:count], x_scale[:count]), QuantizedRows(w, scale))
        found.append(product + (add[:count] if i % 2 else add[0]))
    return digest(*found)


def steps():
    """Return the digest of an LSTM step and a GRU step, as the reference computes them."""
    numbers = Numbers(2)
    gates, c = numbers.floats(4 * UNITS), numbers.floats(UNITS)
    gates[::9] *= 16
    i, f, g, o = gates.view(4, UNITS)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    without_bias = RecurrentWeights(None, None, None)
    projected, stepped = gates[None, : 3 * UNITS], gates[None, UNITS:]
    return digest(c, h, reference.gru_step(projected, stepped, without_bias, h[None]))


def losses():
    """Return the digest of a running softmax, as the reference computes it."""
    numbers, found = Numbers(3), []
    maximum, total = torch.tensor([-torch.inf]), torch.zeros(1, dtype=torch.float64)
    for count in (BLOCK, LOGITS):
        logits = numbers.floats(count)
        logits[::7] *= 16
        most = torch.maximum(maximum, logits.max())
        lanes = torch.zeros(16)
        for a, b, c, d in reference.exponential(logits - most).view(-1, 4, 16):
            lanes += (a + b) + (c + d)
        if most > maximum:
            total *= reference.exponential(maximum - most).double()
        for lane in lanes:
            total += lane.double()
        maximum = most
        found += [maximum, total.clone()]
    return digest(*found)


def test_known_digests_are_those_of_the_reference():
    assert {"rows": rows(), "products": products(), "steps": steps(), "losses": losses()} == KNOWN_DIGESTS


@pytest.mark.slow
def test_kernel_gives_the_known_answers(run_stage):
    found = torch.zeros(len(KNOWN_DIGESTS), dtype=torch.int64)
    run_stage("known_answers", found)
    assert {name: digest % 2**64 for name, digest in zip(KNOWN_DIGESTS, found.tolist(), strict=True)} == KNOWN_DIGESTS


FASTEST = available_isas()[-1]
MATMUL = "static void matmul(const struct product *p) {"
# For each stage, a file, a text in it, and what it is replaced by: mistakes that a compiler might make.
MISTAKES = {
    "rows": ("elementwise.h", "most / 127.0f", "most * (1.0f / 127.0f)"),
    "steps": ("elementwise.h", "1.0f / (1.0f + exponential(-x))", "exponential(x) / (1.0f + exponential(x))"),
    "losses": ("elementwise.h", "*sum += lane[k]", "*sum += lane[LANES - 1 - k]"),
}
# One that a processor might make: a product of more than four rows lacks the last one.
LOST_ROW = (f"{FASTEST}.c", MATMUL, MATMUL + " struct product other = *p; other.rows -= p->rows > 4; p = &other;")
needs_kernels = pytest.mark.skipif(FASTEST == REFERENCE, reason="the kernels were not built")


@pytest.fixture
def select(monkeypatch):
    """A function that replaces the installed kernels."""
    monkeypatch.delenv(ISA_VARIABLE, raising=False)
    return lambda kernels: monkeypatch.setattr(library, "load_library", lambda: kernels)


@pytest.mark.slow
@needs_kernels
def test_kernel_with_wrong_bits_is_left_out_with_a_warning_when_it_is_selected(compile_changed, select, monkeypatch):
    select(compile_changed([LOST_ROW], "-O0"))
    monkeypatch.setenv(ISA_VARIABLE, PORTABLE)  # another kernel, so the wrong one is not called
    assert selected_isa() == PORTABLE
    monkeypatch.delenv(ISA_VARIABLE)
    message = f"leaves out its kernel {FASTEST}, .*report this line .*: {FASTEST}; products [0-9a-f]{{16}}; "
    with pytest.warns(RuntimeWarning, match=message) as caught:
        selected = selected_isa()
    assert len(caught) == 1
    assert str(caught[0].message).isprintable()
    found = available_isas()
    assert FASTEST not in found
    assert found[:2] == [REFERENCE, PORTABLE]
    assert selected == found[-1]
    monkeypatch.setenv(ISA_VARIABLE, FASTEST)
    with pytest.raises(ValueError, match=f"expected one of {', '.join(found)}, found '{FASTEST}'"):
        selected_isa()


@pytest.mark.slow
@needs_kernels
def test_reference_computes_where_all_kernels_have_wrong_bits(compile_changed, select, model):
    select(compile_changed(MISTAKES.values(), "-O0"))
    with pytest.warns(RuntimeWarning, match="rows [0-9a-f]{16}, steps [0-9a-f]{16}, losses [0-9a-f]{16}; "):
        assert available_isas() == [REFERENCE]
    source = batchify(random_ids(30, 60, 0), 1)
    assert evaluate(quantize(model, "int8-native"), source, 25) == pytest.approx(evaluate(model, source, 25), abs=0.02)


@pytest.mark.slow
@pytest.mark.skipif("avx2" not in available_isas(), reason="needs a processor that contracts")
def test_kernels_that_a_compiler_contracted_are_left_out(compile_changed, select):
    select(compile_changed([], "-mfma", "-ffp-contract=fast"))
    with pytest.warns(RuntimeWarning, match="wrong bits"):
        assert available_isas() == [REFERENCE]
