"""Loads a workload from a Python file of the user: :func:`load_user_workload`."""

import runpy
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmq.errors import one_line, prefix_errors
from lstmq.quantization import kept_modules
from lstmq.text import Stream
from lstmq.workload.subject import Subject, Workload


def load_user_workload(
    spec: str, tokens: int | None = None, at_most: int | None = None, keep: Sequence[str] = ()
) -> Workload:
    """Run a file, call a function in it, and return the workload that the function returns.

    Args:
        spec: ``FILE.py:FUNCTION``. The function takes no arguments and returns a :class:`~lstmq.Workload`. The file can
            import modules from its own folder.
        tokens: number of steps to time, from the start of the stream. The loss is always measured on all steps.
        at_most: largest number of steps to time, if ``tokens`` is ``None``.
        keep: names of more modules that stay float32.

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
            workload = keep_modules(make_workload(), keep)
    finally:
        torch.set_num_threads(threads)  # an option of the command sets them, not the file
    workload = replace(_check(workload, spec), made_by=f"{path}:{function}")
    stream = first_steps(workload.speed.stream, tokens, at_most)
    if len(stream) == len(workload.speed.stream):
        return workload
    origin = f"{workload.speed.origin}, {len(stream):,} steps of it"
    return replace(workload, speed=replace(workload.speed, stream=stream, origin=origin))


def keep_modules(workload: Workload, keep: Sequence[str]) -> Workload:
    """Return the workload with more names of modules that stay float32."""
    if not keep:
        return workload
    speed = replace(workload.speed, keep=(*workload.speed.keep, *keep))
    is_same = workload.loss is workload.speed
    loss = speed if is_same else replace(workload.loss, keep=(*workload.loss.keep, *keep))
    return replace(workload, speed=speed, loss=loss)


@contextmanager
def user_errors(spec: str | None) -> Iterator[None]:
    """Replace any error that the user's code raises in the block by a ``ValueError`` that names the spec.

    The code runs under Python's default warning filters, so a warning is no error.

    Args:
        spec: ``FILE.py:FUNCTION``. With ``None``, the block runs no code of the user, and errors stay as they are.
    """
    if spec is None:
        yield
        return
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            for ignored in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", ignored)
            yield
    except (Exception, SystemExit) as error:
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
        with prefix_errors(spec):
            kept_modules(subject.model, subject.keep)
        subject.model.eval()
    return workload


def first_steps(stream: Stream, wanted: int | None, at_most: int | None, of_words: bool = False) -> Stream:
    """Return the start of a stream.

    Args:
        stream: the whole stream.
        wanted: number of steps; ``None`` for as many as there are, but at most ``at_most``.
        at_most: largest number of steps if ``wanted`` is ``None``.
        of_words: whether the numbers count words. The last word is a target only, so ``n`` words have ``n - 1`` steps.
    """
    what, extra = ("tokens", 1) if of_words else ("steps", 0)
    length = len(stream) + extra
    if wanted is not None and not 1 + extra <= wanted <= length:
        raise ValueError(f"the stream has {length:,} {what}: expected {1 + extra} to that many, found {wanted:,}")
    return stream.slice(0, (wanted or min(at_most or length, length)) - extra)
