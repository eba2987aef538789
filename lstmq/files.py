"""Reads regular files only, and writes files completely or not at all.

All readers call :func:`check_input` or :func:`read_input` first, and all writers use :func:`atomic_write`.
"""

import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

STDOUT_NAMES = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
DESCRIPTORS = ("/dev/fd/", "/dev/std", "/proc/")  # paths that lead to a file that is already open
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def check_input(path: str | Path) -> None:
    """Check that a file to read is a regular file. A pipe or a device might be endless.

    Raises:
        OSError: if it is something else, or does not exist.
    """
    if (kind := _kind(Path(path))) != "a file":
        hint = "" if kind == "a folder" else ": copy what it holds into a file first"
        raise OSError(f"{path}: expected a file, found {kind}{hint}")


def read_input(path: str | Path, at_most: int | None = None) -> bytes:
    """Return the content of a regular file.

    Args:
        path: the file.
        at_most: largest size in bytes.

    Raises:
        ValueError: if the file is larger.
        OSError: if it is not a regular file, or cannot be read.
    """
    check_input(path)
    if at_most is not None and (size := Path(path).stat().st_size) > at_most:
        raise ValueError(f"{path}: expected at most {at_most:,} bytes, found {size:,}")
    return Path(path).read_bytes()


def is_stdout(path: str | Path | None) -> bool:
    """Return whether an output path means standard output, as ``-`` does."""
    return str(path) in STDOUT_NAMES


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and move the file to ``path`` when the block ends.

    If the block raises an error or is interrupted, ``path`` keeps its old content. The temporary file is in the same
    folder, because a move between file systems is not atomic.

    What exists and is not a regular file, such as a device or a pipe, is never replaced: when the block ends, the
    content of the temporary file is written into it. The path ``-`` is standard output.

    Raises:
        OSError: if the folder does not exist, or the file cannot be written.
    """
    target = Path(path)
    if is_stdout(path) or (target.exists() and (not target.is_file() or str(target).startswith(DESCRIPTORS))):
        with _open_special(target) as file, tempfile.TemporaryDirectory(prefix="lstmq-") as folder:
            temporary = Path(folder, f"output{target.suffix}")
            temporary.touch()
            yield temporary
            _copy(temporary, file, path)
        return
    target = target.resolve()  # a link stays a link
    check_folder(target)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp lets only the owner read the file.
        temporary.chmod(target.stat().st_mode if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(path: Path) -> None:
    """Check that the folder of a file to write exists. Call it before long work whose result goes into the file.

    Raises:
        FileNotFoundError: if it does not.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder to write to: {folder}")


def check_replaceable(path: Path) -> None:
    """Check that :func:`atomic_write` would write a regular file, which can be read again.

    Raises:
        OSError: if the path is standard output, or exists and is not a regular file; or if its folder does not exist.
    """
    if is_stdout(path) or (path.exists() and not path.is_file()):
        kind = "standard output" if is_stdout(path) else _kind(path)
        raise OSError(f"expected a file to write to, because it is read again, found {kind}: {path}")
    check_folder(path)


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    return "a file" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "a device")


@contextmanager
def _open_special(path: Path) -> Iterator[BinaryIO]:
    """Open what is written into as it is. A pipe that nobody reads is an error, because opening it would wait."""
    if is_stdout(path):
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(f"{path}: no process reads this {_kind(path).split()[-1]}: start the reader first") from None
        raise
    os.set_blocking(descriptor, True)
    file = os.fdopen(descriptor, "wb")
    try:
        yield file
    finally:
        with suppress(OSError):  # only what could not be written is still in its buffer
            file.close()


def _copy(source: Path, target: BinaryIO, name: str | Path) -> None:
    try:
        with source.open("rb") as content:
            shutil.copyfileobj(content, target)
        target.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(name)) from None


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it
    os.umask(mask)
    return mask


def to_finite(document: Any) -> Any:
    """Return plain values for JSON, which has neither NaN nor infinity: ``None`` stands for them.

    Args:
        document: plain values or dataclasses.
    """
    import msgspec  # here, because few commands write JSON

    return msgspec.json.decode(msgspec.json.encode(document))
