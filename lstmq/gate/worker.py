"""The worker process of a session: it holds the models of one environment and times slices.

``python -P -m lstmq.gate.worker`` reads requests from standard input and writes answers to standard output, as
:mod:`lstmq.gate.protocol` describes them. It says hello first, and exits when its input ends.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import torch
from torch import nn

import lstmq
from lstmq.comparison import compare_predictions, describe_machine
from lstmq.errors import one_line
from lstmq.gate.processes import pin_process
from lstmq.gate.protocol import PROTOCOL, Described, Hello, Loaded, SubjectFile, Timed
from lstmq.gate.recording import FLOAT32_COPY, Plan
from lstmq.gate.transfer import load_subject
from lstmq.model import EngineModel, copy_module, evaluate, model_size, window_losses
from lstmq.quantization import FLOAT32, SCHEMES, check_engine, quantize, quantized_share, using_engine
from lstmq.text import Stream
from lstmq.workload import Subject

Models = dict[str, nn.Module]
TYPES: dict[str, Any] = {"subject": SubjectFile, "plan": Plan}  # of arguments


class Worker:
    """The models of one environment. Each public method answers one kind of request.

    Args:
        quantize: as :func:`lstmq.quantize`. Tests pass one that is broken on purpose.
        evaluate: as :func:`lstmq.evaluate`. Tests pass one that is slower.
        cpu_time: returns the CPU time of this process, in seconds. Tests pass a fake clock.
    """

    def __init__(
        self,
        quantize: Callable[[nn.Module, str, str | None, Sequence[str]], nn.Module] = quantize,
        evaluate: Callable[[nn.Module, Stream, int], float] = evaluate,
        cpu_time: Callable[[], float] = time.process_time,
    ) -> None:
        self._quantize, self._evaluate, self._cpu_time = quantize, evaluate, cpu_time
        self.models: Models = {}

    def load(self, subject: SubjectFile, plan: Plan, processor: int) -> Loaded:
        """Load the float32 model and quantize it with every scheme that this environment supports.

        Args:
            subject: the model, and the stream to read slices of.
            plan: what the session measures. This version may not know all of its schemes.
            processor: the processor to stay on, where the system allows it; -1 for any.
        """
        torch.set_num_threads(plan.threads)
        check_engine(plan.engine)
        loaded = load_subject(subject)
        self.stream, self.bptt, self.engine = loaded.stream, plan.bptt, plan.engine
        self.float32 = loaded.model
        quantized, self.absent = self._quantize_all(loaded, plan.schemes)
        self.models = {FLOAT32: loaded.model, FLOAT32_COPY: loaded.model, **quantized}
        pinned = pin_process(0, processor)  # only now, because the workers of a pair load side by side
        for name in self.models:
            self.move(name)  # close to that processor; memory that a file was read into is 1 to 2 % slower than a copy
        return Loaded(machine=describe_machine(plan.engine), models=[*self.models], absent=self.absent, pinned=pinned)

    def _quantize_all(self, subject: Subject[nn.Module], schemes: Sequence[str]) -> tuple[Models, dict[str, str]]:
        """Return the quantized models, and why there is none for the other schemes."""
        quantized, absent = {}, {}
        for scheme in schemes:
            try:
                model = self._quantize(subject.model, scheme, self.engine, subject.keep)
                next(window_losses(model, subject.stream, 1))  # a forward may fail with quantized modules
            except Exception as error:  # torch cannot quantize the model, or this version has no such scheme
                absent[scheme] = one_line(error)
            else:
                quantized[scheme] = model
        return quantized, absent

    def move(self, model: str) -> dict[str, Any]:
        """Copy a model to another place in memory."""
        with using_engine(self.engine):  # torch packs the weights of the copy again, for the engine that is set
            self.models[model] = copy_module(self.models[model])
        if isinstance(self.models[model], EngineModel):  # an engine may prepare itself when it first reads
            self._evaluate(self.models[model], self.stream.slice(0, self.bptt), self.bptt)
        return {}

    def time(self, model: str, first: int, tokens: int) -> Timed:
        """Time a model on the slice of ``tokens`` steps that starts at step ``first``."""
        module, part = self.models[model], self.stream.slice(first, tokens)
        wall, cpu = time.perf_counter(), self._cpu_time()
        self._evaluate(module, part, self.bptt)
        return Timed(cpu=self._cpu_time() - cpu, wall=time.perf_counter() - wall)

    def describe(self, subject: SubjectFile) -> Described:
        """Return the sizes of the models, and how far the predictions of the schemes are from those of float32.

        Args:
            subject: the model and the stream for the loss.
        """
        loaded = load_subject(subject)
        models, absent = self._quantize_all(loaded, [name for name in self.models if name in SCHEMES])
        for name, reason in absent.items():
            del self.models[name]
            self.absent[name] = f"the model for the loss cannot be quantized: {reason}"
        shown = {name: model for name, model in self.models.items() if name != FLOAT32_COPY}
        return Described(
            sizes={name: model_size(model) for name, model in shown.items()},
            fidelity=compare_predictions(loaded.model, {FLOAT32: loaded.model, **models}, loaded.stream, self.bptt),
            quantized_share={name: quantized_share(self.float32, shown[name], name) for name in models},
            models=[*self.models],
            absent=self.absent,
        )


def serve(requests: IO[str], answers: IO[str], worker: Worker | None = None) -> None:
    """Say hello, then answer requests until there are no more."""

    def answer(result: object) -> None:
        answers.write(json.dumps(msgspec.to_builtins(result)) + "\n")
        answers.flush()

    answer(Hello(protocol=PROTOCOL, lstmq=lstmq.__version__, location=str(Path(lstmq.__file__).parent)))
    worker = worker or Worker()
    for line in requests:
        try:
            request: dict[str, Any] = json.loads(line)
            arguments = {name: msgspec.convert(value, TYPES.get(name, Any)) for name, value in request.items()}
            answer(getattr(worker, arguments.pop("do"))(**arguments))
        except Exception as error:  # a user's model may raise anything
            answer({"error": one_line(error)})
            return


def main(worker: Worker | None = None) -> None:
    """Serve on standard input and output. What else the process prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt reaches the session, which then closes the input
    serve(sys.stdin, answers, worker)


if __name__ == "__main__":
    main()
