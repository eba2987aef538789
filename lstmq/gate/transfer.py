"""A workload on its way to other processes: :func:`hand_over` writes its subjects down, :func:`take_over` reads one.

Weights and streams travel as tensors in files, so that every environment has the same. What is no tensor, the code of
a model and of a loss, is each environment's own: lstmq's, or the file's that made the workload.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lstmq.errors import one_line
from lstmq.model import checkpoint
from lstmq.text import Stream
from lstmq.workload import Subject, Workload, load_user_workload

SubjectFile = dict[str, str]
"""What a process is told of a subject: ``which`` of its workload's, ``made_by``, the folder of the files."""


@contextmanager
def dump_subjects(workload: Workload) -> Iterator[dict[str, SubjectFile]]:
    """Give a parcel for each subject, ``speed`` and ``loss``, in files of a folder that goes away after the block.

    Raises:
        OSError: if the files cannot be written.
    """
    with TemporaryDirectory(prefix="lstmq-") as folder:
        parcels = {}
        for which, subject in (("speed", workload.speed), ("loss", workload.loss)):
            known = which == "loss" and workload.loss is workload.speed
            place = Path(folder, "speed" if known else which)
            parcels[which] = {"which": which, "made_by": workload.made_by, "folder": str(place)}
            if not known:
                place.mkdir()
                stream = {"inputs": subject.stream.inputs, "targets": subject.stream.targets}
                _write(place / "stream.safetensors", stream)
                _write(place / "model.safetensors", subject.model.state_dict())
        yield parcels


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, each on its own, even if some share their memory."""
    alone = {name: each.detach().clone(memory_format=torch.contiguous_format) for name, each in tensors.items()}
    save_file(alone, path)


def load_subject(parcel: SubjectFile) -> Subject[nn.Module]:
    """Return a subject that was handed over.

    Raises:
        ValueError: if this environment's code makes a model that the weights do not fit.
        OSError: if the files cannot be read.
    """
    folder, made_by = Path(parcel["folder"]), parcel["made_by"]
    tensors = load_file(folder / "stream.safetensors")
    stream = Stream(inputs=tensors["inputs"], targets=tensors["targets"])
    if not made_by:
        return Subject(model=checkpoint.load_checkpoint(folder / "model.safetensors").eval(), stream=stream, origin="")
    mine: Subject[nn.Module] = getattr(load_user_workload(made_by), parcel["which"])
    try:
        mine.model.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise ValueError(f"{made_by}: another model than there: {one_line(error)}") from error
    return replace(mine, stream=replace(stream, loss=mine.stream.loss))
