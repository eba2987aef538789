"""Writes files completely or not at all: :func:`atomic_write`."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DESCRIPTORS = ("/dev/fd/", "/dev/std", "/proc/")  # paths that lead to a file that is already open


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and move the file to ``path`` when the block ends.

    If the block raises an error or is interrupted, ``path`` keeps its old content. The temporary file is in the same
    folder, because a move between file systems is not atomic. If ``path`` is a device or a pipe, the block writes to it
    directly.

    Raises:
        OSError: if the folder does not exist, or the file cannot be written.
    """
    target = Path(path)
    if target.exists() and (not target.is_file() or str(target).startswith(DESCRIPTORS)):
        yield target
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


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it
    os.umask(mask)
    return mask
