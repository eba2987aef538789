"""A worker whose quantized models are slower by a known share, as in ``python -P slowed.py 0.05``.

After each slice, it keeps the processor busy for that share of the slice's CPU time.
"""

import sys
import time

from torch import nn

from lstmq import Stream, evaluate, quantize
from lstmq.gate.worker import Worker, main

SHARE = float(sys.argv[1])


def quantize_and_mark(model: nn.Module, scheme: str, engine: str | None) -> nn.Module:
    quantized = quantize(model, scheme, engine)
    quantized.is_slowed = True
    return quantized


def evaluate_slowly(model: nn.Module, stream: Stream, bptt: int) -> float:
    start = time.process_time()
    loss = evaluate(model, stream, bptt)
    if hasattr(model, "is_slowed"):
        end = start + (time.process_time() - start) * (1 + SHARE)
        while time.process_time() < end:
            pass
    return loss


main(Worker(quantize_and_mark, evaluate_slowly))
