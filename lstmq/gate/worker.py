"""The process that a session asks: it holds one environment's models and times slices, one at a time.

``python -P -m lstmq.worker`` speaks lines of JSON: requests on standard input, one answer each on standard output, ends
with its input. It says hello first, with the version of this protocol and what it runs on. A request names what to
``do``: ``load`` the models, ``time`` a slice, ``move`` a model to another place in memory, ``describe`` the schemes. An
answer with an ``error``, one line, is the last.
"""

import copy
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from lstmq import __version__
from lstmq.comparison import compare_predictions, describe_machine
from lstmq.errors import one_line
from lstmq.gate.transfer import SubjectFile, load_subject
from lstmq.model import EngineModel, evaluate, model_size
from lstmq.quantization import FLOAT32, SCHEMES, check_engine, quantize, using_engine
from lstmq.workload import Subject

PROTOCOL = 3
FLOAT32_COPY = "float32 again"  # the same arithmetic in other memory: what the machine makes of no difference at all


class Worker:
    """The models of one environment; a method a request, whose arguments are the request's."""

    def load(
        self, subject: SubjectFile, schemes: list[str], engine: str | None, threads: int, bptt: int, cpu: int
    ) -> dict[str, Any]:
        """Load float32 and quantize it; tell which models there are, and which scheme there is none of, and why.

        Args:
            subject: the model, and the stream to take slices of.
            schemes: keys of :data:`lstmq.SCHEMES`, where this version knows them.
            engine: as for :func:`lstmq.quantize`.
            threads: that torch computes on.
            bptt: longest window, in tokens.
            cpu: the processor to stay on, if it is the one thread's, and this system can; -1 for any.
        """
        torch.set_num_threads(threads)
        check_engine(engine)
        taken = load_subject(subject)
        float32, self.stream, self.bptt, self.engine = taken.model, taken.stream, bptt, engine
        quantized, absent = self._quantize(taken, schemes)
        self.models = {FLOAT32: float32, FLOAT32_COPY: float32, **quantized}
        pinned = _pin_to(cpu)  # not before: the workers of a pair load side by side
        for name in self.models:
            self.move(name)  # near that processor; and what a file was read into was slower than any copy, by 1 to 2 %
        return {"machine": describe_machine(engine), "models": [*self.models], "absent": absent, "pinned": pinned}

    def _quantize(self, taken: Subject[nn.Module], schemes: list[str]) -> tuple[dict[str, nn.Module], dict[str, str]]:
        quantized, absent = {}, {}
        for scheme in schemes:
            try:
                model = quantize(taken.model, scheme, self.engine)
                evaluate(model, taken.stream.slice(0, 1), 1)  # anybody's forward may not bear what it is made of now
            except Exception as error:  # this torch cannot, or it is a scheme of another version's
                absent[scheme] = one_line(error)
            else:
                quantized[scheme] = model
        return quantized, absent

    def move(self, model: str) -> dict[str, Any]:
        """Copy a model to another place in memory."""
        with using_engine(self.engine):  # torch packs the copy's weights anew
            self.models[model] = copy.deepcopy(self.models[model])
        if isinstance(self.models[model], EngineModel):  # an engine makes itself ready when it first reads
            evaluate(self.models[model], self.stream.slice(0, self.bptt), self.bptt)
        return {}

    def time(self, arm: str, first: int, tokens: int) -> dict[str, float]:
        """Let a model read a slice; tell the seconds of CPU time, of whatever threads, and of wall time."""
        model, slice_ = self.models[arm], self.stream.slice(first, tokens)
        wall, cpu = time.perf_counter(), time.process_time()
        evaluate(model, slice_, self.bptt)
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}

    def describe(self, subject: SubjectFile) -> dict[str, Any]:
        """Tell the sizes, and how near the schemes' predictions are to float32's for a model and a stream."""
        taken = load_subject(subject)
        models, absent = self._quantize(taken, [name for name in self.models if name in SCHEMES])
        if absent:
            raise ValueError(
                "; ".join(f"the model of the loss has no {scheme}: {why}" for scheme, why in absent.items())
            )
        compared = compare_predictions(taken.model, {FLOAT32: taken.model, **models}, taken.stream, self.bptt)
        return {
            "sizes": {name: asdict(model_size(model)) for name, model in self.models.items() if name != FLOAT32_COPY},
            "fidelity": {name: asdict(fidelity) for name, fidelity in compared.items()},
        }


def _pin_to(cpu: int) -> bool:
    """Keep this process on a processor; tell whether it is kept."""
    if cpu >= 0 and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # a container may forbid it
            os.sched_setaffinity(0, {cpu})
            return True
    return False


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Say hello, then answer until there are no more requests."""

    def answer(**facts: Any) -> None:
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    place = str(Path(__file__).parent)
    answer(protocol=PROTOCOL, lstmq=__version__, torch=torch.__version__, place=place, pid=os.getpid())
    worker = Worker()
    for request in _parsed(requests):
        try:
            answer(**getattr(worker, request.pop("do"))(**request))
        except Exception as error:  # anybody's model may raise anything
            answer(error=one_line(error))
            return


def _parsed(requests: IO[str]) -> Iterator[dict[str, Any]]:
    for line in requests:
        yield json.loads(line)


def main() -> None:
    """Serve on standard input and output; what anything else prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the session's, which then closes the input
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
