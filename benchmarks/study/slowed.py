"""A worker whose quantized models are slower by a known share: ``python -P slowed.py 0.05``, say.

The share is spun away after every slice, on the clock that the slice is timed by.
"""

import sys
import time

from lstmq.gate import worker

SHARE = float(sys.argv[1])
evaluate, quantize = worker.evaluate, worker.quantize


def quantize_slowed(model, scheme, engine):
    quantized = quantize(model, scheme, engine)
    quantized.slowed = True
    return quantized


def evaluate_slowed(model, source, bptt):
    start = time.process_time()
    loss = evaluate(model, source, bptt)
    if hasattr(model, "slowed"):
        until = start + (time.process_time() - start) * (1 + SHARE)
        while time.process_time() < until:
            pass
    return loss


worker.evaluate, worker.quantize = evaluate_slowed, quantize_slowed
worker.main()
