"""Runs kernels that this processor cannot run, in an emulator.

``driver.c`` in ``tests/quantization/native/`` is the program that runs there. Tests send it the arguments of a stage,
and get back what the stage wrote.
"""

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lstmq.quantization.native.library import KERNEL_ISAS

NUMBER, ARRAY = 0, 1


class Driver:
    """A process that runs stages of kernels. As a context manager, it ends the process.

    Args:
        command: the driver's program, after the emulator that runs it.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)

    def run_stage(self, name: str, isa: str, *arguments: int | Tensor) -> int:
        """Run a stage of ``stages.c``. It may write to the tensors. Return 0, or -1 if the kernel cannot run there.

        Raises:
            BrokenPipeError: if the process ended, for example because the stage read outside of the tensors.
        """
        request = [struct.pack("<16sqq", name.encode(), KERNEL_ISAS.index(isa), len(arguments))]
        for argument in arguments:
            if isinstance(argument, Tensor):
                request += [struct.pack("<qq", ARRAY, argument.nbytes), to_bytes(argument)]
            else:
                request.append(struct.pack("<qq", NUMBER, argument))
        self._process.stdin.write(b"".join(request))
        self._process.stdin.flush()
        (result,) = struct.unpack("<q", self._read(8))
        for tensor in arguments:
            if isinstance(tensor, Tensor):
                written = torch.frombuffer(bytearray(self._read(tensor.nbytes)), dtype=tensor.dtype)
                tensor.copy_(written.view(tensor.shape))
        return result

    def _read(self, size: int) -> bytes:
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise BrokenPipeError(f"the driver ended with status {self._process.wait(timeout=60)}")
        return data


def to_bytes(tensor: Tensor) -> bytes:
    """Return the bytes of a contiguous tensor."""
    return tensor.numpy().tobytes()
