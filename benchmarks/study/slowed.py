"""A worker whose int8 models are slower by a known share: ``python -P slowed.py 0.05``, say.

The share is spun away after every slice, on the clock that the slice is timed by. Without an argument, the schemes'
names say it: ``int8 slowed by 5 %``, so that one process holds several.
"""

import sys
import time

from lstmq import worker

evaluate, quantize = worker.evaluate, worker.quantize
SLOWED = " slowed by "


def quantize_slowed(model, scheme, engine):
    plain, _, percent = scheme.partition(SLOWED)
    quantized = quantize(model, plain, engine)
    quantized.share = float(percent.rstrip(" %")) / 100 if percent else float((sys.argv[1:] or [0])[0])
    return quantized


def evaluate_slowed(model, source, bptt):
    start = time.thread_time()
    loss = evaluate(model, source, bptt)
    until = start + (time.thread_time() - start) * (1 + getattr(model, "share", 0))
    while time.thread_time() < until:
        pass
    return loss


worker.evaluate, worker.quantize = evaluate_slowed, quantize_slowed
worker.main()
