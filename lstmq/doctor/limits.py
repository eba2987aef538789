"""What the control groups of Linux allow a process: :func:`read_limits`. Containers are limited by them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NO_LIMIT = 2**60  # bytes; version 1 writes a larger number where there is no limit


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of the control groups of a process.

    Attributes:
        processors: processor time per time, such as 1.5 for one and a half processors; ``None`` without a limit.
        memory: bytes; ``None`` without a limit.
    """

    processors: float | None = None
    memory: int | None = None


def read_limits(root: Path = Path("/")) -> Limits:
    """Return the smallest limits of the control groups of this process and of those around them, versions 1 and 2.

    Args:
        root: the folder that holds ``proc`` and ``sys``.

    Example:
        >>> from pathlib import Path
        >>> from lstmq.doctor import read_limits
        >>> read_limits(Path("/a folder without control groups"))
        Limits(processors=None, memory=None)
    """
    processors: list[float] = []
    memory: list[int] = []
    for controllers, folder in _folders(root):
        if controllers is None:  # version 2
            quota, period = ([*_words(folder / "cpu.max"), "", ""])[:2]
            most = _words(folder / "memory.max")
        else:
            quota, period = ("".join(_words(folder / f"cpu.cfs_{name}_us")[:1]) for name in ("quota", "period"))
            most = _words(folder / "memory.limit_in_bytes")
        if quota.isdigit() and period.isdigit() and int(period):  # not "max" or "-1"
            processors.append(int(quota) / int(period))
        memory += [int(number) for number in most[:1] if number.isdigit() and int(number) < NO_LIMIT]
    return Limits(processors=min(processors, default=None), memory=min(memory, default=None))


def _folders(root: Path) -> Iterator[tuple[str | None, Path]]:
    """Yield the folders of the groups of this process, and of those around them, each with its controllers.

    A line of ``/proc/self/cgroup`` is ``number:controllers:path``. Version 2 has no controllers there. A container may
    show the path that its host sees, so only the groups of the path that exist count.
    """
    base = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        mounts = [base, base / "unified"] if not controllers else [base / controllers, base / controllers.split(",")[0]]
        for mount in mounts:
            inside = PurePosixPath(path.lstrip("/"))
            for group in (inside, *inside.parents):
                yield controllers or None, mount / group


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # there is none, or it is not readable
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
