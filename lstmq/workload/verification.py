"""What a fetched file is verified by, and how a zip is read that anybody may have written."""

import hashlib
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 16  # bytes


class FetchError(OSError):
    """What is published could not be had, or what was had is not what is published."""


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """What a file is verified by: its size in bytes, CRC-32, SHA-1 as a git blob and, where known, SHA-256."""

    name: str
    size: int
    crc32: int
    git_sha1: str
    sha256: str | None = None

    def verify(self, path: Path) -> None:
        """Raise :class:`FetchError` if ``path`` holds anything else, another :class:`OSError` if it cannot be read."""
        size, crc = path.stat().st_size, 0
        git, sha256 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
                git.update(chunk)
                sha256.update(chunk)
        for kind, expected, found in (
            ("bytes", f"{self.size:,}", f"{size:,}"),
            ("CRC-32", f"{self.crc32:08x}", f"{crc:08x}"),
            ("git SHA-1", self.git_sha1, git.hexdigest()),
            ("SHA-256", self.sha256 or sha256.hexdigest(), sha256.hexdigest()),
        ):
            if expected != found:
                raise FetchError(f"{self.name}: expected {kind} {expected}, found {found}")


@contextmanager
def unzipping(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip that anybody may have written: whatever is wrong with it is a :class:`FetchError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                path_in_zip = name.replace("\\", "/")
                if ".." in path_in_zip.split("/") or path_in_zip.startswith("/") or ":" in name:
                    raise FetchError(f"{path.name}: expected names inside its folder, found {name!r}")
            yield archive
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        found = "a damaged one" if (start := first_bytes(path)).startswith(b"PK") else f"a file that starts {start!r}"
        raise FetchError(f"{path.name}: expected a zip, found {found} ({error})") from None


def unpack(archive: zipfile.ZipFile, member: str, size: int, target: Path) -> None:
    """Write the member, which zipfile never reads past the size that the zip declares."""
    try:
        info = archive.getinfo(member)
    except KeyError:
        found = ", ".join(archive.namelist()[:3]) or "nothing"
        raise FetchError(f"expected {member} in the zip, found {found}") from None
    if info.file_size != size:
        raise FetchError(f"{member}: expected {size:,} bytes, found {info.file_size:,} declared")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FetchError(f"{member}: expected it deflated or stored, found compression method {info.compress_type}")
    with archive.open(info) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK)


def first_bytes(path: Path) -> bytes:
    """Return up to 16 bytes: enough to tell what a file is."""
    with path.open("rb") as file:
        return file.read(16)
