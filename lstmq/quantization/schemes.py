"""Quantization schemes: the table :data:`SCHEMES`, and :func:`quantize`, which applies one.

To add a scheme, add an entry to the table; CONTRIBUTING.md lists what else to change. This module does not import
torch: each scheme imports what it needs when it is first used.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

from lstmq.errors import QuantizationError

if TYPE_CHECKING:
    from torch import nn

    from lstmq.model import LanguageModel

FLOAT32 = "float32"  # stands for the model before quantization
ALL = "all"  # stands for all schemes


@dataclass(frozen=True)
class Scheme:
    """A way to make a model smaller and faster.

    Attributes:
        summary: a few words for tables and help texts.
        quantize: takes a float32 model, leaves it unchanged, and returns a new model. Raises
            :class:`~lstmq.QuantizationError` if the new model would not be quantized. If the scheme accepts any module,
            it may also take the names of modules to keep in float32.
        quantizes: names of the classes in ``torch.nn`` whose modules it quantizes. ``Module`` stands for all.
        missing: returns what the scheme needs and this environment does not have; empty if it has all.
        slow_without: returns what would make the scheme fast and this environment does not have. The scheme works
            without it. Empty if nothing.
        language_models_only: whether the scheme accepts only an :class:`~lstmq.LSTMModel`, and no other module.
        default: whether the scheme is measured when the user names no scheme.
    """

    summary: str
    quantize: Callable[[Any], "nn.Module"]
    _: KW_ONLY
    quantizes: tuple[str, ...] = ("Module",)
    missing: Callable[[], str] = str
    slow_without: Callable[[], str] = str
    language_models_only: bool = False
    default: bool = True


def _lazy(module: str, function: str, **options: Any) -> Callable[..., Any]:
    """Return a function that imports ``function`` when it is called, and passes it these options too."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"lstmq.quantization.{module}"), function)(*arguments, **options)

    return call


def _torch_ao(summary: str, embedding: str | None = None) -> Scheme:
    types = (*TORCH_AO_TYPES, *(["Embedding"] if embedding else []))
    return Scheme(summary, _lazy("torch_ao", "quantize_dynamic", types=types, embedding=embedding), quantizes=types)


def _onnx(summary: str, *operators: str, default: bool = False) -> Scheme:
    types = {"LSTM": "LSTM", "MatMul": "Linear", "Gather": "Embedding"}
    return Scheme(
        summary,
        _lazy("onnx", "to_onnx_model", operators=operators),
        quantizes=tuple(types[operator] for operator in operators),
        missing=_lazy("onnx", "missing_packages"),
        language_models_only=True,
        default=default,
    )


TORCH_AO_TYPES = ("LSTM", "GRU", "LSTMCell", "GRUCell", "RNNCell", "Linear")  # torch.ao has no int8 nn.RNN
NATIVE_TYPES = ("LSTM", "GRU", "LSTMCell", "GRUCell", "Linear", "Embedding")

SCHEMES: Mapping[str, Scheme] = {
    "int8": _torch_ao("LSTM and linear layers in int8"),
    "int8-embedding": _torch_ao("int8, and the embedding's rows in 8 bits", "quint8"),
    "int8-embedding4": _torch_ao("int8, and the embedding's rows in 4 bits", "quint4x2"),
    "bf16": Scheme(
        "everything in bfloat16",
        _lazy("bfloat16", "cast_to_bfloat16"),
        slow_without=_lazy("bfloat16", "missing_instructions"),
    ),
    "bf16-compile": Scheme(
        "everything in bfloat16, compiled by torch",
        _lazy("bfloat16", "compile_in_bfloat16"),
        missing=_lazy("bfloat16", "missing_compiler"),
        language_models_only=True,
        default=False,
    ),
    "int8-native": Scheme(
        "everything in int8, with our own kernels",
        _lazy("native", "quantize_int8"),
        quantizes=NATIVE_TYPES,
        slow_without=_lazy("native", "missing_kernels"),
    ),
    "ort-fp32": _onnx("float32 in ONNX Runtime"),
    "ort-int8": _onnx("everything in int8 in ONNX Runtime", "LSTM", "MatMul", "Gather", default=True),
    "ort-int8-linear-lstm": _onnx("ort-int8 with the embedding in float32", "LSTM", "MatMul"),
}
"""The quantization schemes by name. ``lstmq compare`` and the benchmarks measure those whose ``default`` is true.

Example:
    >>> from lstmq import SCHEMES
    >>> SCHEMES["int8"].summary
    'LSTM and linear layers in int8'
"""


def select_schemes(
    names: Sequence[str], model: "nn.Module", known: Collection[str] = SCHEMES.keys()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the schemes to measure, and the schemes to leave out with what each of them needs.

    Args:
        names: keys of :data:`SCHEMES`, which are selected even if they cannot run. ``all`` selects all schemes that
            can run at full speed, and an empty sequence the default ones among them.
        model: the float32 model. Some schemes accept only an :class:`~lstmq.LSTMModel`.
        known: keys of :data:`SCHEMES` to choose from if ``names`` is empty or contains ``all``.
    """
    if names and ALL not in names:
        return tuple(dict.fromkeys(names)), {}
    candidates = [name for name in SCHEMES if name in known and (SCHEMES[name].default or names)]
    needs = {name: _unmet_need(name, model) or SCHEMES[name].slow_without() for name in candidates}
    left_out = {name: need for name, need in needs.items() if need}
    return tuple(name for name in candidates if name not in left_out), left_out


def _unmet_need(scheme: str, model: "nn.Module") -> str:
    """Return what a scheme needs to quantize the model here and does not have; empty if it has all."""
    from lstmq.model import LanguageModel, LSTMModel

    if missing := SCHEMES[scheme].missing():
        return missing
    if SCHEMES[scheme].language_models_only and not isinstance(model, LSTMModel):
        is_engine = isinstance(model, LanguageModel)
        hint = "" if is_engine else " (load_checkpoint makes one of a state dict with the tutorial's keys)"
        return f"an LSTMModel, found {type(model).__name__}{hint}"
    return ""


@overload
def quantize(
    model: "LanguageModel", scheme: str = ..., engine: str | None = ..., keep: Sequence[str] = ...
) -> "LanguageModel": ...
@overload
def quantize(
    model: "nn.Module", scheme: str = ..., engine: str | None = ..., keep: Sequence[str] = ...
) -> "nn.Module": ...
def quantize(
    model: "nn.Module", scheme: str = "int8", engine: str | None = None, keep: Sequence[str] = ()
) -> "nn.Module":
    """Return a quantized copy of a model, in evaluation mode. The model itself does not change.

    Args:
        model: float32, with recurrent, linear or embedding modules inside it; for ``int8-native``, it may be one. The
            schemes ``bf16-compile`` and ``ort-*`` accept only an :class:`~lstmq.LSTMModel`.
        scheme: a key of :data:`~lstmq.SCHEMES`.
        engine: torch's backend for int8 products: x86, fbgemm, onednn or qnnpack. The copy uses this engine from now
            on; torch's own setting does not change. The default is torch's own setting.
        keep: names of modules that stay float32, such as ``("rnn", "encoder.*")``, with ``*`` and ``?`` as in file
            names. It includes the modules inside them.

    Raises:
        QuantizationError: if there is nothing to quantize; if a recurrent module, or one of a type that the scheme
            quantizes, would stay float32 and ``keep`` does not name it; if the environment does not have what the
            scheme needs; if torch does not support the engine.
        ValueError: if there is no such scheme, or ``keep`` matches no module.

    Example:
        >>> from lstmq import LSTMModel, ModelConfig, model_size, quantize
        >>> model = LSTMModel(ModelConfig(ntoken=100, ninp=64, nhid=64, nlayers=2))
        >>> int8 = quantize(model, "int8")
        >>> model_size(int8).total < model_size(model).total
        True
        >>> type(quantize(model, "int8", keep=["decoder"]).decoder)
        <class 'torch.nn.modules.linear.Linear'>
    """
    from lstmq.quantization.checks import kept_modules
    from lstmq.quantization.engines import using_engine

    if scheme not in SCHEMES:
        raise ValueError(f"no such scheme: {scheme!r}, expected one of {', '.join(SCHEMES)}")
    if need := _unmet_need(scheme, model):
        raise QuantizationError(f"{scheme} needs {need}")
    kept = kept_modules(model, [keep] if isinstance(keep, str) else keep)
    if kept and SCHEMES[scheme].language_models_only:
        raise QuantizationError(f"{scheme} converts the whole model, and cannot keep {min(kept)!r} in float32")
    with using_engine(engine):
        return SCHEMES[scheme].quantize(model, *([kept] if kept else []))
