"""Passes models and streams to worker processes: :func:`dump_subjects` writes files, :func:`load_subject` reads them.

Weights and streams travel as tensors in files, so that every environment has the same numbers. Code does not travel:
each environment uses its own lstmq, or its own copy of the file that builds the workload.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lstmq.errors import one_line
from lstmq.gate.protocol import SubjectFile
from lstmq.model import load_checkpoint
from lstmq.text import Stream, map_tensors, tensors_of
from lstmq.workload import Subject, Workload, load_user_workload


class SubjectFiles(NamedTuple):
    """The subjects of a workload in files."""

    speed: SubjectFile
    loss: SubjectFile


@contextmanager
def dump_subjects(workload: Workload) -> Iterator[SubjectFiles]:
    """Write the subjects for speed and for the loss to a temporary folder, which is deleted after the block.

    Raises:
        OSError: if the files cannot be written.
    """
    with TemporaryDirectory(prefix="lstmq-") as temporary:
        speed, loss = Path(temporary, "speed"), Path(temporary, "loss")
        dump_subject(workload.speed, speed)
        if workload.loss is workload.speed:
            loss = speed
        else:
            dump_subject(workload.loss, loss)
        speed_file = SubjectFile(which="speed", made_by=workload.made_by, folder=str(speed), keep=workload.speed.keep)
        yield SubjectFiles(
            speed_file, SubjectFile(which="loss", made_by=workload.made_by, folder=str(loss), keep=workload.loss.keep)
        )


def dump_subject(subject: Subject[nn.Module], folder: Path) -> None:
    """Write the stream and the weights of a subject to a new folder."""
    folder.mkdir()
    _save(folder / "stream.safetensors", _stream_tensors(subject.stream))
    _save(folder / "model.safetensors", subject.model.state_dict())


def _stream_tensors(stream: Stream) -> dict[str, Tensor]:
    """Return the tensors of a stream by name."""
    trees = {"inputs": stream.inputs, "targets": stream.targets}
    return {f"{name}.{i}": x for name, tree in trees.items() for i, x in enumerate(tensors_of(tree))}


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write each tensor on its own, even if several share memory."""
    copies = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_file(copies, path)


def load_subject(file: SubjectFile) -> Subject[nn.Module]:
    """Read a subject that :func:`dump_subjects` wrote.

    Raises:
        ValueError: if the code of this environment builds a model that the weights do not fit.
        OSError: if the files cannot be read.
    """
    folder = Path(file.folder)
    tensors = load_file(folder / "stream.safetensors")
    if not file.made_by:
        stream = Stream(inputs=tensors["inputs.0"], targets=tensors["targets.0"])
        return Subject(
            model=load_checkpoint(folder / "model.safetensors").eval(), stream=stream, origin="", keep=file.keep
        )
    subject: Subject[nn.Module] = getattr(load_user_workload(file.made_by), file.which)
    if file.own_code:
        return _load_own_subject(subject, tensors, file)
    subject = _with_stream(subject, tensors, file)
    try:
        subject.model.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise ValueError(f"{file.made_by} builds another model in this environment: {one_line(error)}") from error
    return subject


def _load_own_subject(
    subject: Subject[nn.Module], tensors: Mapping[str, Tensor], file: SubjectFile
) -> Subject[nn.Module]:
    """Return a subject that other code built. It has the weights of the file if they fit, and its own if not.

    Raises:
        ValueError: if its stream is another one.
    """
    axis = 1 if subject.stream.batch_first else 0
    steps = min(x.shape[axis] if x.dim() > axis else 0 for x in tensors.values())
    stream = subject.stream.slice(0, steps)  # the other side may time only the start of its stream
    own = _stream_tensors(stream)
    if own.keys() != tensors.keys() or not all(torch.equal(own[name], tensors[name]) for name in own):
        raise ValueError(
            f"{file.made_by} makes another stream than the other side: expected the same inputs and targets on both"
        )
    weights = load_file(Path(file.folder) / "model.safetensors")
    current = subject.model.state_dict()
    if {name: x.shape for name, x in weights.items()} == {name: x.shape for name, x in current.items()}:
        subject.model.load_state_dict(weights)
    # Both sides must read the same kind of memory. A small model was 1 to 2 % faster with a stream that its code made.
    return _with_stream(replace(subject, stream=stream), tensors, file)


def _with_stream(subject: Subject[nn.Module], tensors: Mapping[str, Tensor], file: SubjectFile) -> Subject[nn.Module]:
    """Return a subject that reads the stream of the file."""
    trees = {name: _fill(name, getattr(subject.stream, name), tensors, file) for name in ("inputs", "targets")}
    return replace(subject, stream=replace(subject.stream, **trees), keep=file.keep)


def _fill(name: str, tree: Any, tensors: Mapping[str, Tensor], file: SubjectFile) -> Any:
    """Return the tuples and dictionaries of the stream in this environment with the tensors of the file."""
    found = [key for key in tensors if key.startswith(f"{name}.")]
    if len(found) != (count := len([*tensors_of(tree)])):
        raise ValueError(f"{file.made_by} makes another stream in this environment: {count} {name}, not {len(found)}")
    numbers = iter(range(count))
    return map_tensors(lambda _: tensors[f"{name}.{next(numbers)}"], tree)
