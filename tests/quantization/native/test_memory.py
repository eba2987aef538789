"""The law of memory: whatever a user does in Python, a kernel touches no memory that is not its own.

1. torch cannot compile, export, trace or transform the model, or run it on fake tensors: that is refused in one line.
2. Tensors that are changed, resized or replaced after the kernels packed them give the result of the new tensors, or
   one line.
3. Arguments of any kind give the result of the reference, or one line.
"""

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from lstmq import LSTMModel, QuantizationError, quantize
from lstmq.quantization.native import reference
from lstmq.quantization.native.weights import weights_from_state
from strategies import random_ids


@pytest.fixture(params=["int8-native", "ort-fp32"])
def engine_model(request, model):
    return quantize(model.eval(), request.param)


@pytest.fixture
def native(isa, model):
    """A model that has read a window, so that its weights are packed."""
    native = quantize(model.eval(), "int8-native")
    native(*arguments(native))
    return native


def arguments(model):
    return random_ids(30, 10, 0).view(5, 2), model.init_hidden(2)


def expected(native):
    return reference.logits(weights_from_state(native.state_dict(), native.config), *arguments(native))[0]


# Law 1.


def fake(model):
    with FakeTensorMode():
        model(torch.zeros(5, 2, dtype=torch.int64), model.init_hidden(2))


TRACERS = {
    "jit.trace": lambda model: torch.jit.trace(model, arguments(model)),
    "make_fx": lambda model: make_fx(model)(*arguments(model)),
    "vmap": lambda model: torch.func.vmap(lambda ids: model(ids, model.init_hidden(2))[0])(torch.zeros(3, 5, 2).long()),
    "grad": lambda model: torch.func.grad(lambda h: model(arguments(model)[0], (h, h))[0].sum())(torch.zeros(2, 2, 8)),
    "fake tensors": fake,
}


@pytest.mark.filterwarnings("ignore:`torch.jit")  # is deprecated
@pytest.mark.parametrize("tracer", ["jit.trace", "make_fx", "vmap", "grad", "fake tensors"])
def test_model_is_not_traced(engine_model, tracer):
    message = "computes outside of torch: torch cannot compile, export, trace, vmap or differentiate it"
    with pytest.raises(QuantizationError, match=message) as caught:
        TRACERS[tracer](engine_model)
    assert "\n" not in str(caught.value)


@pytest.mark.slow  # imports a large part of torch
@pytest.mark.filterwarnings("ignore")  # of torch.export
def test_model_is_not_exported(engine_model):
    with pytest.raises(QuantizationError, match="torch cannot compile, export"):
        torch.export.export(engine_model, arguments(engine_model), strict=False)


@pytest.mark.slow  # imports a large part of torch
@pytest.mark.filterwarnings("ignore")  # of torch.compile
@pytest.mark.parametrize("method", ["forward", "window_loss"])
def test_compiled_model_is_refused_or_returns_what_the_model_returns(engine_model, method):
    """Some versions of torch pass the error on, and others leave out what they cannot compile."""
    ids, hidden = arguments(engine_model)
    inputs = (ids, hidden) if method == "forward" else (ids, ids, hidden)
    expected, _ = getattr(copy.deepcopy(engine_model), method)(*inputs)
    try:
        result, _ = torch.compile(getattr(engine_model, method), backend="eager")(*inputs)
    except QuantizationError as error:
        assert "torch cannot compile" in str(error)
    else:
        assert torch.equal(result, expected)
    assert torch.equal(getattr(engine_model, method)(*inputs)[0], expected)


# Law 2.


def replace_decoder(native):
    native.decoder.weight = torch.randint(-9, 9, native.decoder.weight.shape, dtype=torch.int8)


CHANGES = {
    "in place": lambda native: native.encoder.weight.neg_(),
    "by data": lambda native: setattr(native.encoder.weight, "data", native.encoder.weight.neg()),
    "replaced": replace_decoder,
    "not contiguous": lambda native: setattr(
        native.decoder, "weight", torch.ones(8, 30, dtype=torch.int8).cumsum(0, dtype=torch.int8).T
    ),
    "loaded": lambda native: native.load_state_dict(
        quantize(LSTMModel(native.config, torch.Generator().manual_seed(9)), "int8-native").state_dict()
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_packed_again(native, change):
    before = native(*arguments(native))[0]
    CHANGES[change](native)
    logits = native(*arguments(native))[0]
    assert not torch.equal(logits, before)
    assert torch.equal(logits, expected(native))


BREAKAGES = {
    "resized": lambda native: native.encoder.weight.resize_(3, 16),
    "set": lambda native: native.encoder.scale.set_(torch.zeros(3)),
    "other dtype": lambda native: setattr(native.decoder, "scale", native.decoder.scale.double()),
    "on another device": lambda native: native.to("meta"),
    "missing": lambda native: setattr(native.decoder, "bias", None),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_weights_that_do_not_fit_the_shape_are_refused(native, breakage):
    BREAKAGES[breakage](native)
    with pytest.raises(ValueError, match="expected") as caught:
        native(random_ids(30, 10, 0).view(5, 2), (torch.zeros(2, 2, 8), torch.zeros(2, 2, 8)))
    assert "\n" not in str(caught.value)


def test_freed_weights_are_not_read(native):
    """The storage shrinks, but neither the tensor's address nor its count of changes."""
    logits = native(*arguments(native))[0]
    for tensor in native.buffers():
        tensor.untyped_storage().resize_(0)
    hidden = torch.zeros(2, 2, 8), torch.zeros(2, 2, 8)
    try:
        assert torch.equal(native(random_ids(30, 10, 0).view(5, 2), hidden)[0], logits)
    except (ValueError, RuntimeError) as error:
        assert "\n" not in str(error)


# Law 3.


@pytest.mark.parametrize(
    ("ids", "hidden"),
    [
        (torch.zeros(2, 5, dtype=torch.int64).T, None),
        (torch.zeros(1, 1, dtype=torch.int64).expand(5, 2), None),
        (random_ids(30, 20, 0).view(10, 2)[::2], None),
        (None, torch._efficientzerotensor(2, 2, 8)),
        (None, torch.zeros(2, 2, 8, requires_grad=True)),
        (None, torch.imag(torch.ones(2, 2, 8, dtype=torch.complex64).conj())),
        (None, torch.zeros(8, 2, 2).permute(2, 1, 0)),
    ],
)
def test_strange_tensors_are_read_as_torch_reads_them(native, ids, hidden):
    ids = arguments(native)[0] if ids is None else ids
    hidden = torch.zeros(2, 2, 8) if hidden is None else hidden
    logits, _ = native(ids, (hidden, hidden))
    plain = hidden.detach().clone().resolve_neg() + 0
    weights = weights_from_state(native.state_dict(), native.config)
    assert torch.equal(logits, reference.logits(weights, ids, (plain, plain))[0])


@pytest.mark.parametrize("reads", ["a kernel", "the reference"])
@pytest.mark.parametrize(
    ("ids", "shape", "message"),
    [
        (torch.full((5, 2), 30), (2, 2, 8), "expected ids from 0 to 29, found another"),
        (torch.full((5, 2), -1), (2, 2, 8), "expected ids from 0 to 29, found another"),
        (torch.zeros(5, 2), (2, 2, 8), "input: expected torch.int64"),
        (torch.zeros(5, 2, dtype=torch.int32), (2, 2, 8), "input: expected torch.int64"),
        (torch.zeros(5, dtype=torch.int64), (2, 2, 8), r"expected ids of shape \(n, bsz\)"),
        (torch.zeros(5, 2, dtype=torch.int64), (1, 2, 8), r"hidden: expected torch.float32 of shape \(2, 2, 8\)"),
        (torch.zeros(5, 2, dtype=torch.int64), (2, 1, 8), r"hidden: expected torch.float32 of shape \(2, 2, 8\)"),
        (torch.zeros(5, 2, dtype=torch.int64, device="meta"), (2, 2, 8), "input: .* on meta"),
        ([[0, 0]], (2, 2, 8), "input: expected a plain tensor, found list"),
    ],
)
def test_wrong_arguments_are_refused(isa, model, monkeypatch, reads, ids, shape, message):
    if reads == "the reference":
        monkeypatch.setenv("LSTMQ_ISA", "reference")
    with pytest.raises(ValueError, match=message):
        quantize(model, "int8-native")(ids, (torch.zeros(shape), torch.zeros(shape)))
