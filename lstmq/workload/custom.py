"""Loads a workload from a Python file of the user: :func:`load_user_workload`."""

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
    """Run a file, call a function in it, and return the workload that the function returns.

    Args:
        spec: ``FILE.py:FUNCTION``. The function takes no arguments and returns a :class:`~lstmq.Workload`. The file can
            import modules from its own folder.
        tokens: number of steps to time, from the start of the stream. The loss is always measured on all steps.
        at_most: largest number of steps to time, if ``tokens`` is ``None``.

    Raises:
        ValueError: if the file or function does not exist, raises an error, or returns something else.
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
            make_workload = _run(path).get(function)
            if not callable(make_workload):
                raise ValueError(f"the file has no function {function}")
            workload = make_workload()
    finally:
        torch.set_num_threads(threads)  # an option of the command sets them, not the file
    workload = replace(_check(workload, spec), made_by=f"{path}:{function}")
    return _shorten(workload, tokens, at_most)


@contextmanager
def user_errors(spec: str | None) -> Iterator[None]:
    """Replace any error that the user's code raises in the block by a ``ValueError`` that names the spec.

    Args:
        spec: ``FILE.py:FUNCTION``. With ``None``, the block runs no code of the user, and errors stay as they are.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if spec is None:
            raise
        raise ValueError(f"{spec}: {one_line(error)}") from error


def _run(path: Path) -> dict[str, Any]:
    """Run a file and return its globals. Installed modules come before those in its folder."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    return runpy.run_path(str(path), run_name=f"workload {path.stem}")


def _check(workload: object, spec: str) -> Workload:
    """Check that worker processes can load the workload, and put its models into evaluation mode."""
    if not isinstance(workload, Workload):
        raise ValueError(f"{spec}: expected a Workload from the function, found {type(workload).__name__}")
    for subject in (workload.speed, workload.loss):
        for part, kind in ((None, Subject), ("model", nn.Module), ("stream", Stream)):
            value = getattr(subject, part) if part else subject
            if not isinstance(value, kind):
                raise ValueError(f"{spec}: expected a {kind.__name__}, found {type(value).__name__}")
        for name, weight in subject.model.state_dict().items():
            if not isinstance(weight, Tensor) or weight.layout is not torch.strided:
                raise ValueError(f"{spec}: expected only dense tensors in the model's state dict, found {name}")
        subject.model.eval()
    return workload


def _shorten(workload: Workload, tokens: int | None, at_most: int | None) -> Workload:
    """Return the workload with a shorter stream to time."""
    speed, length = workload.speed, len(workload.speed.stream)
    if tokens is not None and not 1 <= tokens <= length:
        raise ValueError(f"the stream has {length:,} steps: expected 1 to that many, found {tokens:,}")
    steps = min(length, tokens or at_most or length)
    if steps == length:
        return workload
    origin = f"{speed.origin}, {steps:,} steps of it"
    return replace(workload, speed=replace(speed, stream=speed.stream.slice(0, steps), origin=origin))
