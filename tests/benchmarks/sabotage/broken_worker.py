"""A worker of the gate that is broken: ``python broken_worker.py '{"fake_clock": 0.01}'``."""

import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from sabotage import Sabotage

from lstmq import evaluate, quantize
from lstmq.gate import worker

SLICES_BEFORE_KILL = 20
SLICES_PER_BLOCK = 32
FLOAT32_SECONDS, INT8_SECONDS = 2.5, 1.0  # of a slice on the fake clock


class Saboteur:
    """Stands in for what a worker quantizes, evaluates and measures time with."""

    def __init__(self, sabotage, session):
        self.sabotage, self.session = sabotage, session
        self.generator = random.Random(0)
        self.seconds = 0.0
        self.slices = 0
        self.slow_slices = range(0)
        if sabotage.slow_once:
            with suppress(FileExistsError):
                Path(sabotage.marker).touch(exist_ok=False)
                self.slow_slices = range(SLICES_PER_BLOCK) if sabotage.slow_once == "block" else range(10**9)

    def quantize(self, model, scheme, engine, keep):
        quantized = quantize(model, scheme, engine, keep)
        quantized.scheme = scheme  # so that evaluate knows it
        return quantized

    def evaluate(self, model, stream, bptt):
        self.slices += 1
        if self.slices == SLICES_BEFORE_KILL:
            self.kill()
        scheme = getattr(model, "scheme", None)
        slower = 1 if self.slices in self.slow_slices else self.sabotage.int8_slower
        factor = 1 + slower if scheme == "int8" else 1
        if self.sabotage.fake_clock is not None:
            noise = self.generator.uniform(-1, 1) * self.sabotage.fake_clock
            self.seconds += (INT8_SECONDS if scheme else FLOAT32_SECONDS) * factor * (1 + noise)
            return 0.0
        start = time.process_time()
        loss = evaluate(model, stream, bptt)
        end = start + (time.process_time() - start) * factor
        while factor > 1 and time.process_time() < end:
            pass
        return loss

    def cpu_time(self):
        return time.process_time() if self.sabotage.fake_clock is None else self.seconds

    def kill(self):
        if self.sabotage.kill == "worker":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.sabotage.kill == "session":
            os.kill(self.session, signal.SIGINT)


def main(text, session):
    """Run a worker.

    Args:
        text: a :class:`Sabotage`, as JSON.
        session: the ID of the process that asked for the worker.
    """
    sabotage = Sabotage.from_json(text)
    sabotage.break_process()
    saboteur = Saboteur(sabotage, session)
    worker.main(worker.Worker(saboteur.quantize, saboteur.evaluate, saboteur.cpu_time))


if __name__ == "__main__":
    main(sys.argv[1], os.getppid())
