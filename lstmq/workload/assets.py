"""What is published, WikiText-2 and a checkpoint: what it is verified by, and how it is put in its place."""

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch

from lstmq.files import atomic_write
from lstmq.model import ModelConfig, checkpoint
from lstmq.workload.verification import FetchError, PublishedFile, first_bytes, unpack, unzipping

DATA = Path("data")  # where what is fetched lands and is looked for, from the current folder


@dataclass(frozen=True, kw_only=True)
class TextArchive:
    """A published zip of a folder of text.

    Attributes:
        name: of the asset, and of the folder, inside the zip and when unpacked.
        url: of the zip.
        limit: in bytes; no more is ever taken from any server for the zip.
        md5: of the zip.
        files: of the folder.
    """

    name: str
    url: str
    limit: int
    md5: str
    files: tuple[PublishedFile, ...]

    def path(self, folder: Path) -> Path:
        """Return its place in ``folder``."""
        return folder / self.name

    def known_hash(self, _folder: Path) -> str:
        """Return what the download must hash to, as pooch writes it."""
        return f"md5:{self.md5}"

    def is_good(self, folder: Path) -> bool:
        """Return whether ``folder`` holds all files, undamaged."""
        try:
            for file in self.files:
                file.verify(self.path(folder) / file.name)
        except (FetchError, FileNotFoundError):
            return False
        return True

    def place(self, download: Path, folder: Path) -> None:
        """Unpack beside the download, verify, and move into ``folder``. The names are ours, never the zip's."""
        unpacked = {file: download.with_name(file.name) for file in self.files}
        with unzipping(download) as archive:
            for file, path in unpacked.items():
                unpack(archive, f"{self.name}/{file.name}", file.size, path)
                file.verify(path)
        self.path(folder).mkdir(exist_ok=True)
        for file, path in unpacked.items():
            _move(path, self.path(folder) / file.name)


@dataclass(frozen=True, kw_only=True)
class PinnedCheckpoint:
    """A published checkpoint whose hash nobody wrote down: what it holds is verified, and its SHA-256 pinned.

    The pin is a line as ``sha256sum --check`` reads it, in a lock file beside the checkpoint.

    Attributes:
        name: of the asset.
        url: of the file.
        limit: in bytes; no more is ever taken from any server.
        config: of the model that it holds.
    """

    name: str
    url: str
    limit: int
    config: ModelConfig

    def path(self, folder: Path) -> Path:
        """Return its place in ``folder``."""
        return folder / file_name(self)

    def lock(self, folder: Path) -> Path:
        """Return the place of its lock file."""
        return folder / f"{file_name(self)}.lock"

    def pin(self, folder: Path) -> str | None:
        """Return the pinned SHA-256, ``None`` before the first fetch."""
        lock = self.lock(folder)
        if not lock.exists():
            return None
        sha256, _, _ = lock.read_text(encoding="utf-8", errors="replace").partition(" ")
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise FetchError(f"{lock}: expected 64 hexadecimal digits, found {sha256[:64]!r}; remove it to fetch anew")
        return sha256

    def known_hash(self, folder: Path) -> str | None:
        """Return what the download must hash to, as pooch writes it, if it is pinned."""
        pin = self.pin(folder)
        return pin and f"sha256:{pin}"

    def is_good(self, folder: Path) -> bool:
        """Return whether ``folder`` holds what is pinned."""
        pin, path = self.pin(folder), self.path(folder)
        return pin is not None and path.exists() and pooch.file_hash(path) == pin

    def place(self, download: Path, folder: Path) -> None:
        """Verify keys, shapes and values, pin, and move into ``folder``."""
        if first_bytes(download).startswith(b"PK"):  # a zip, as torch writes them: it would inflate a bomb
            with unzipping(download) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > self.limit:
                raise FetchError(f"{download.name}: expected at most {self.limit:,} bytes inside, found {size:,}")
        try:
            config = checkpoint.load_checkpoint(download).config
        except checkpoint.CheckpointError as error:
            raise FetchError(str(error).replace(str(download), download.name)) from None
        if config != self.config:
            raise FetchError(f"expected a checkpoint of {self.config}, found {config}")
        sha256 = pooch.file_hash(download)
        pin = self.pin(folder)  # again: another process may have been faster
        if pin is None:
            with atomic_write(self.lock(folder)) as temporary:
                temporary.write_text(f"{sha256}  {download.name}\n", encoding="utf-8")
        elif pin != sha256:
            raise FetchError(f"expected SHA-256 {pin}, found {sha256}")
        _move(download, self.path(folder))


Asset = TextArchive | PinnedCheckpoint

WIKITEXT_2 = TextArchive(
    name="wikitext-2",
    url="https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip",
    limit=14_000_000,  # what it holds comes to 13.2 MB
    md5="542ccefacc6c27f945fb54453812b3cd",
    files=(
        PublishedFile(
            name="wiki.train.tokens",
            size=10_797_148,
            crc32=0xAA2052CD,
            git_sha1="2d84b35af79e411d73ea7cae83c73964c6ac83b4",
        ),
        PublishedFile(
            name="wiki.valid.tokens",
            size=1_121_681,
            crc32=0x04CBD4C7,
            git_sha1="eec944eb2d9e46061cd34a6913528797db6842fc",
            sha256="f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        ),
        PublishedFile(
            name="wiki.test.tokens",
            size=1_256_449,
            crc32=0x6948EE54,
            git_sha1="6f3fc88e4cd88456ea892971f9f12243e8428624",
            sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        ),
    ),
)
CHECKPOINT = PinnedCheckpoint(
    name="checkpoint",
    url="https://s3.amazonaws.com/pytorch-tutorial-assets/word_language_model_quantize.pth",
    limit=120_000_000,  # its numbers take 113.9 MB
    config=ModelConfig(),
)
ASSETS = {asset.name: asset for asset in (WIKITEXT_2, CHECKPOINT)}


def file_name(asset: Asset) -> str:
    """Return the name that ``asset`` is published under."""
    return PurePosixPath(asset.url).name


def _move(source: Path, target: Path) -> None:
    """Replace ``target`` at once, with the usual rights in place of a temporary file's, also over a link."""
    with atomic_write(target) as temporary:
        shutil.move(source, temporary)
