"""The files that ``lstmq fetch`` downloads, and how it verifies them: :data:`ASSETS`."""

import hashlib
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path, PurePosixPath

import pooch

from lstmq.errors import one_line
from lstmq.files import atomic_write, check_input, read_input
from lstmq.model import CheckpointError, ModelConfig, load_checkpoint

DATA = Path("data")  # in the current folder


class FetchError(OSError):
    """A download failed, or the downloaded file is not the published one."""


@dataclass(frozen=True, kw_only=True)
class TextArchive:
    """A published zip with a folder of text. The folder has the name of the asset.

    Attributes:
        name: name on the command line.
        url: where the zip is published.
        limit: size in bytes that neither the zip nor its contents may exceed.
        md5: MD5 of the zip. Nothing stronger is published.
        files: names in the folder, and the strongest known hash of each: ``sha256:DIGITS`` or ``git:DIGITS``.
    """

    name: str
    url: str
    limit: int
    md5: str
    files: Mapping[str, str]

    def path(self, folder: Path) -> Path:
        """Return the folder of text."""
        return folder / self.name

    def known_hash(self, _folder: Path) -> str:
        """Return the MD5 of the zip."""
        return f"md5:{self.md5}"

    def is_good(self, folder: Path) -> bool:
        """Return whether all files exist and have the known hashes."""
        try:
            for name, known_hash in self.files.items():
                _verify(self.path(folder) / name, known_hash)
        except (FetchError, FileNotFoundError):
            return False
        return True

    def install(self, download: Path, folder: Path) -> None:
        """Unpack the files next to the download, verify them, and move them."""
        members = [f"{self.name}/{name}" for name in self.files]
        with _open_zip(download, self.limit) as archive:
            names = archive.namelist()
            for member in members:
                # pooch unpacks all names that start like the member.
                found = [name for name in names if normpath(name).startswith(normpath(member))]
                if found != [member]:
                    raise FetchError(f"expected {member} once in the zip, found {(found or names)[:3]}")
            pooch.Unzip(members=members, extract_dir="unpacked")(str(download), "download", None)
        unpacked = download.with_name("unpacked") / self.name
        for name, known_hash in self.files.items():
            _verify(unpacked / name, known_hash)
        self.path(folder).mkdir(exist_ok=True)
        for name in self.files:
            _move(unpacked / name, self.path(folder) / name)


@dataclass(frozen=True, kw_only=True)
class PinnedCheckpoint:
    """A checkpoint that is published without a hash.

    The first fetch verifies the contents, and writes the SHA-256 to a lock file next to the checkpoint, in the format
    of ``sha256sum --check``. Later fetches accept only this SHA-256.

    Attributes:
        name: name on the command line.
        url: where the checkpoint is published.
        limit: size in bytes that neither the file nor its unpacked contents may exceed.
        config: the shape of the model.
    """

    name: str
    url: str
    limit: int
    config: ModelConfig

    def path(self, folder: Path) -> Path:
        """Return the checkpoint."""
        return folder / file_name(self)

    def lock(self, folder: Path) -> Path:
        """Return the lock file."""
        return folder / f"{file_name(self)}.lock"

    def pin(self, folder: Path) -> str | None:
        """Return the SHA-256 in the lock file, or ``None`` before the first fetch."""
        lock = self.lock(folder)
        if not lock.exists():
            return None
        sha256, _, _ = read_input(lock).decode(errors="replace").partition(" ")
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise FetchError(f"{lock}: expected 64 hexadecimal digits, found {sha256[:64]!r}; delete it to fetch again")
        return sha256

    def known_hash(self, folder: Path) -> str | None:
        """Return the SHA-256 in the lock file."""
        pin = self.pin(folder)
        return pin and f"sha256:{pin}"

    def is_good(self, folder: Path) -> bool:
        """Return whether the checkpoint has the SHA-256 in the lock file."""
        pin, path = self.pin(folder), self.path(folder)
        return pin is not None and path.is_file() and pooch.file_hash(path) == pin

    def install(self, download: Path, folder: Path) -> None:
        """Verify keys, shapes and values, write the lock file, and move the checkpoint."""
        if zipfile.is_zipfile(download):  # as torch writes them
            with _open_zip(download, self.limit):
                pass  # it is not a zip bomb
        try:
            config = load_checkpoint(download).config
        except CheckpointError as error:
            raise FetchError(one_line(error).replace(str(download), download.name)) from None
        if config != self.config:
            raise FetchError(f"expected a checkpoint with {self.config}, found {config}")
        sha256 = pooch.file_hash(download)
        pin = self.pin(folder)  # another process may have written it during the download
        if pin is None:
            with atomic_write(self.lock(folder)) as temporary:
                temporary.write_text(f"{sha256}  {download.name}\n", encoding="utf-8")
        elif pin != sha256:
            raise FetchError(f"expected sha256:{pin}, found sha256:{sha256}")
        _move(download, self.path(folder))


Asset = TextArchive | PinnedCheckpoint

WIKITEXT_2 = TextArchive(
    name="wikitext-2",
    url="https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip",
    limit=14_000_000,  # unpacked, it has 13,175,278 bytes
    md5="542ccefacc6c27f945fb54453812b3cd",
    files={
        "wiki.train.tokens": "git:2d84b35af79e411d73ea7cae83c73964c6ac83b4",
        "wiki.valid.tokens": "sha256:f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        "wiki.test.tokens": "sha256:d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    },
)
CHECKPOINT = PinnedCheckpoint(
    name="checkpoint",
    url="https://s3.amazonaws.com/pytorch-tutorial-assets/word_language_model_quantize.pth",
    limit=120_000_000,  # its weights have 113.9 MB
    config=ModelConfig(),
)
ASSETS: dict[str, Asset] = {asset.name: asset for asset in (WIKITEXT_2, CHECKPOINT)}


def file_name(asset: Asset) -> str:
    """Return the name that an asset is published under."""
    return PurePosixPath(asset.url).name


def _verify(path: Path, known_hash: str) -> None:
    """Compare a file with its known hash. The algorithm ``git`` is that of ``git hash-object``."""
    check_input(path)
    algorithm, _, expected = known_hash.partition(":")
    if algorithm == "git":
        data = read_input(path)
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        found = pooch.file_hash(path, alg=algorithm)
    if found != expected:
        raise FetchError(f"{path.name}: expected {known_hash}, found {algorithm}:{found}")


@contextmanager
def _open_zip(path: Path, limit: int) -> Iterator[zipfile.ZipFile]:
    """Open a zip that may be damaged or malicious, and raise :class:`FetchError` if it is.

    Names and sizes are checked before anything is unpacked. zipfile unpacks no more of a file than the zip declares.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), limit)
            yield archive
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(16)
        found = f"a damaged zip, or another file, that starts with {start!r}"
        raise FetchError(f"{path.name}: expected a zip, found {found} ({one_line(error)})") from None


def _check_members(members: list[zipfile.ZipInfo], limit: int) -> None:
    for member in members:
        name = member.filename.replace("\\", "/")
        if ".." in name.split("/") or name.startswith("/") or ":" in name:
            raise FetchError(f"expected names inside the folder of the zip, found {member.filename!r}")
        # The other methods may need gigabytes of memory.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FetchError(f"expected {name!r} stored or deflated, found compression method {member.compress_type}")
    size = sum(member.file_size for member in members)
    if size > limit:
        raise FetchError(f"expected at most {limit:,} bytes in the zip, found {size:,}")


def _move(source: Path, target: Path) -> None:
    """Replace ``target`` at once, and give it the usual permissions instead of those of a temporary file."""
    with atomic_write(target) as temporary:
        shutil.move(source, temporary)
