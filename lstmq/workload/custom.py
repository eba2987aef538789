"""Workloads of your own: :func:`load_custom` calls the function that ``FILE.py:FUNCTION`` names."""

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmq.errors import one_line
from lstmq.text import Stream
from lstmq.workload.subject import Subject, Workload


def load_user_workload(spec: str, tokens: int | None = None, at_most: int | None = None) -> Workload:
    """Run a file of yours, and return what its function makes.

    Args:
        spec: ``FILE.py:FUNCTION``. The function takes nothing and returns a :class:`~lstmq.Workload`. What lies
            beside the file can be imported by it.
        tokens: time only the first so many steps; all of them if not given. The loss is always that of all.
        at_most: the most that are timed if ``tokens`` is not given.

    Raises:
        ValueError: in one line, if there is no such file or function, or it raises, or makes anything else.
    """
    file, _, function = spec.rpartition(":")
    path = Path(file).resolve()
    if path.suffix != ".py" or not function:
        raise ValueError(f"expected a workload as FILE.py:FUNCTION, found {spec!r}")
    if not path.is_file():
        raise ValueError(f"no such file: {file}")
    threads = torch.get_num_threads()
    try:
        with user_errors(spec):
            make = _run(path).get(function)
            if not callable(make):
                raise ValueError(f"there is no function {function}")
            made = make()
    finally:
        torch.set_num_threads(threads)  # they are ours to choose
    workload = _checked(made, spec)
    return _timed(replace(workload, made_by=f"{path}:{function}"), tokens, at_most)


@contextmanager
def user_errors(spec: str | None) -> Iterator[None]:
    """Make one ``ValueError``, which names the spec, of whatever anybody's code raises inside the block."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if spec is None:
            raise
        raise ValueError(f"{spec}: {one_line(error)}") from error


def _run(path: Path) -> dict[str, Any]:
    """Run the file, as it is now, and return its names; what lies in its folder comes after all that is installed."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    return runpy.run_path(str(path), run_name=f"workload {path.stem}")


def _checked(workload: object, spec: str) -> Workload:
    """Return it, if it is a workload all of which can be handed over, with its models in evaluation mode."""
    if not isinstance(workload, Workload):
        raise ValueError(f"{spec}: expected it to return a Workload, found {type(workload).__name__}")
    for subject in (workload.speed, workload.loss):
        if not isinstance(subject, Subject):
            raise ValueError(f"{spec}: expected subjects, found {type(subject).__name__}")
        for part, kind in ((subject.model, nn.Module), (subject.stream, Stream)):
            if not isinstance(part, kind):
                raise ValueError(f"{spec}: expected a {kind.__name__}, found {type(part).__name__}")
        for name, value in subject.model.state_dict().items():
            if not isinstance(value, Tensor) or value.layout is not torch.strided:
                raise ValueError(f"{spec}: expected a state of dense tensors alone, found {name} in it")
        subject.model.eval()
    return workload


def _timed(workload: Workload, tokens: int | None, at_most: int | None) -> Workload:
    """Return the workload with fewer steps to be timed."""
    there = len(workload.speed.stream)
    if tokens is not None and not 1 <= tokens <= there:
        raise ValueError(f"the stream holds {there:,} steps: expected 1 to that many, found {tokens:,}")
    steps = min(there, tokens or at_most or there)
    if steps == there:
        return workload
    origin = f"{workload.speed.origin}, {steps:,} steps of it"
    return replace(workload, speed=replace(workload.speed, stream=workload.speed.stream.slice(0, steps), origin=origin))
