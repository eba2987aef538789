"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DESCRIPTORS = ("/dev/fd/", "/dev/std", "/proc/")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and move it there when the block ends well.

    After an error or an interrupt the old file, if any, is as it was. A device or a pipe is written to directly.

    Raises:
        OSError: if there is no such folder, or it cannot be written to.
    """
    target = Path(path)
    if target.exists() and (not target.is_file() or str(target).startswith(DESCRIPTORS)):
        yield target
        return
    target = target.resolve()
    check_folder(target)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(target.stat().st_mode if target.exists() else 0o666 & ~_umask())  # mkstemp makes it private
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(path: Path) -> None:
    """Raise ``FileNotFoundError`` if the folder to write ``path`` to is not there: now, not when all is done."""
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"no such folder to write to: {path.resolve().parent}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
