"""What spoils a benchmark run from inside: every Python that starts with this folder on its path runs it first.

So it reaches the process of pytest and those of its workers. SABOTAGE says, in JSON, what is to be spoiled:

    spoiled: true                 further schemes, each of them int8 gone wrong in its own way
    slower:  a share              int8 takes longer by it, and the other schemes do not
    jitter:  a share              slices are not read; the clock tells what they would cost, within this share
    removed: true                 torch has no dynamic quantization any more
    without: a package            it is not installed
    kill:    worker or session    in the middle of the timing, the worker kills itself, or interrupts pytest
"""

import copy
import json
import os
import random
import signal
import sys
import time
from importlib.machinery import PathFinder

SABOTAGE = json.loads(os.environ.get("SABOTAGE", "{}"))
MIDDLE = 20  # slices after which to kill


def after_import(name, change):
    """Let ``change`` have the module of that name before anything can import from it."""

    class Finder:
        @staticmethod
        def find_spec(wanted, path=None, target=None):
            if wanted != name:
                return None
            spec = PathFinder.find_spec(wanted, path)
            execute = spec.loader.exec_module

            def execute_and_change(module):
                execute(module)
                change(module)

            spec.loader.exec_module = execute_and_change
            return spec

    sys.meta_path.insert(0, Finder)


def as_float(model, quantize):
    return copy.deepcopy(model)


def linear_only(model, quantize):
    from torch import ao, nn

    return ao.quantization.quantize_dynamic(model, {nn.Linear})


def lstm_only(model, quantize):
    from torch import ao, nn

    return ao.quantization.quantize_dynamic(model, {nn.LSTM})


def scales_off(model, quantize):
    """Quantize weights that are 5 % too large: the same integers, whose scales are off."""
    return quantize(_times(1.05, model, "rnn.weight", "decoder.weight"))


def layer_zeroed(model, quantize):
    return quantize(_times(0, model, "rnn.weight_ih_l1", "rnn.weight_hh_l1"))


def grown(model, quantize):
    import torch

    from lstmq.model.size import model_size

    quantized = quantize(model)
    quantized.register_buffer("ballast", torch.zeros(model_size(quantized).total // 50, dtype=torch.uint8))
    return quantized


def ort_as_float(model, quantize):
    return quantize(model, "ort-fp32")


def ort_scales_off(model, quantize):
    return quantize(_times(1.05, model, "rnn.weight", "decoder.weight"), "ort-int8")


def ort_gates_in_torchs_order(model, quantize):
    from lstmq.quantization.onnx import graph

    in_order, graph.to_onnx_gate_order = graph.to_onnx_gate_order, lambda gates: gates[None]
    try:
        return quantize(model, "ort-int8")
    finally:
        graph.to_onnx_gate_order = in_order


def _native(change):
    """Return what makes a native model whose class is changed, so that its copies are, too."""

    def spoil(model, quantize):
        quantized = quantize(model, "int8-native")
        quantized.__class__ = type("Spoiled", (type(quantized),), change(type(quantized)))
        return quantized

    return spoil


def _tile_dropped(native):
    """Leave out 64 columns of 64 words, as a kernel that stops one tile too early would."""

    def weights(self):
        encoder, layers, decoder, bias = native._weights(self)
        integers = decoder.integers.clone()
        integers[64:128, :64] = 0
        return encoder, layers, decoder._replace(integers=integers), bias

    return {"_weights": weights}


def _fallen_back(native):
    """Compute rightly, and by the slowest kernel, whatever the processor has."""
    return {"window_loss": lambda self, *window: self._pack().window_loss("portable", *window)}


def native_scales_off(model, quantize):
    return quantize(_times(1.05, model, "rnn.weight", "decoder.weight"), "int8-native")


SPOILED = {each.__name__: each for each in (as_float, linear_only, lstm_only, scales_off, layer_zeroed, grown)}
SPOILED |= {
    each.__name__: each for each in (ort_as_float, ort_scales_off, ort_gates_in_torchs_order, native_scales_off)
}
SPOILED |= {"native_tile_dropped": _native(_tile_dropped), "native_falls_back": _native(_fallen_back)}


def _times(factor, model, *names):
    changed = copy.deepcopy(model)
    for name, weight in changed.named_parameters():
        if name.startswith(names):
            weight.data *= factor
    return changed


def spoil_quantization(module):
    quantize = module.quantize
    if SABOTAGE.get("spoiled"):
        like = {"ort": "ort-int8", "native": "int8-native"}
        module.SCHEMES.update({name: module.SCHEMES[like.get(name.split("_")[0], "int8")] for name in SPOILED})

    def sabotaged(model, scheme="int8", engine=None):
        spoil = SPOILED.get(scheme) if SABOTAGE.get("spoiled") else None
        quantized = spoil(model, quantize) if spoil else quantize(model, scheme, engine)
        quantized.scheme = scheme
        return quantized

    module.quantize = sabotaged
    if SABOTAGE.get("removed"):
        import torch

        sys.modules["torch.ao.quantization"] = None
        vars(torch.ao).pop("quantization", None)
        vars(torch.backends).pop("quantized", None)


def spoil_evaluation(module):
    """Change what a worker times, and nothing that it tells of predictions."""
    evaluate, process_time, generator = module.evaluate, time.process_time, random.Random(0)
    told, slices, jitter = 0.0, 0, SABOTAGE.get("jitter", 0)

    def sabotaged(model, source, bptt):
        nonlocal told, slices
        slices += 1
        if slices == MIDDLE and "kill" in SABOTAGE:
            worker = SABOTAGE["kill"] == "worker"
            os.kill(os.getpid() if worker else os.getppid(), signal.SIGKILL if worker else signal.SIGINT)
        scheme = getattr(model, "scheme", None)
        longer = 1 + SABOTAGE.get("slower", 0) if scheme == "int8" else 1
        if "jitter" in SABOTAGE:
            told += (1 if scheme else 2.5) * longer * generator.uniform(1 - jitter, 1 + jitter)
            return 0.0
        start = process_time()
        loss = evaluate(model, source, bptt)
        until = start + (process_time() - start) * longer
        while longer > 1 and process_time() < until:
            pass
        return loss

    module.evaluate = sabotaged
    if "jitter" in SABOTAGE:
        time.process_time = lambda: told


if "without" in SABOTAGE:
    sys.modules[SABOTAGE["without"]] = None
if SABOTAGE.get("kill") == "session":  # Python does not hear SIGINT if what started the tests ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)
after_import("lstmq.quantization.schemes", spoil_quantization)
after_import("lstmq.model.evaluation", spoil_evaluation)
