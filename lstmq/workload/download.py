"""Bytes from a server, a mirror or a folder: taken within limits, verified by pooch, placed by the asset itself."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Protocol
from urllib.parse import urlsplit

import pooch

from lstmq.workload.assets import DATA, Asset, PinnedCheckpoint, file_name
from lstmq.workload.verification import CHUNK, FetchError

TIMEOUT = 30  # seconds without a byte


class Bar(Protocol):
    """A progress bar as pooch drives it, in bytes. Setting ``total`` starts it anew; 0 is not known."""

    total: int

    def update(self, n: int, /) -> object:
        """Advance by ``n`` bytes."""

    def reset(self) -> object:
        """Go back to 0."""

    def close(self) -> object:
        """Be done."""


def fetch(
    asset: Asset, folder: Path = DATA, source: str | None = None, bar: Bar | None = None, retries: int = 2
) -> str | None:
    """Put ``asset`` into ``folder``, whole and verified or not at all; do nothing if it is there and good.

    Any number of processes may do so at once.

    Args:
        asset: one of :data:`lstmq.assets.ASSETS`.
        folder: made if it is not there.
        source: the URL of a mirror, or a local folder, that holds what is published under the names as published;
            where it is published if not given.
        bar: is told of every byte.
        retries: how often to try again after a broken connection or a wrong hash.

    Returns:
        Where it was fetched from; ``None`` if it was there and good.

    Raises:
        ValueError: if ``source`` is neither an http or https URL nor a folder.
        FetchError: in one line, what was expected and what was found.
        OSError: if ``folder`` cannot be written to.
    """
    url = asset.url if source is None else _join(source, file_name(asset))
    if asset.is_good(folder):
        return None
    known_hash = asset.known_hash(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # An absolute path, for pooch would expand a ~ in it.
        with TemporaryDirectory(dir=folder.resolve(), prefix=".fetch-") as temporary:
            name = file_name(asset)
            registry = pooch.create(
                temporary, "", registry={name: known_hash}, urls={name: url}, retry_if_failed=retries
            )
            asset.place(Path(registry.fetch(name, downloader=_downloader(asset.limit, bar))), folder)
    except FetchError as error:
        raise FetchError(f"{url}: {error}") from None
    except ValueError as error:  # pooch: a wrong hash
        hint = f" Remove {asset.lock(folder)} to accept another." if isinstance(asset, PinnedCheckpoint) else ""
        raise FetchError(f"{url}: {error}{hint}") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(folder).free
            raise FetchError(f"{folder}: expected room for {url}, found the disk full ({free:,} bytes left)") from None
        if error.filename is not None:  # of a file or folder here; it says which
            raise
        raise FetchError(f"{url}: expected the file, found {_root(error)}") from None
    return url


def _join(source: str, name: str) -> str:
    parts = urlsplit(source)
    if parts.scheme in ("http", "https") and parts.netloc:
        return f"{source.rstrip('/')}/{name}"
    if not Path(source).is_dir():
        raise ValueError(f"expected an http or https URL or a folder to fetch from, found {source!r}")
    return str(Path(source) / name)


def _downloader(limit: int, bar: Bar | None) -> Callable[[str, str, pooch.Pooch], None]:
    """Return what pooch calls to download ``url`` to the path ``output``.

    pooch tries again after a ``ValueError`` or an error of requests; what trying again does not mend is neither.
    """

    def download(url: str, output: str, registry: pooch.Pooch) -> None:
        with Path(output).open("wb") as file:
            limited = _Limited(file, limit)
            if "://" not in url:
                _copy(Path(url), limited, bar)
                return
            opened: list[IO[bytes]] = []
            hooks = {"response": lambda response, **_: opened.append(response)}
            http = pooch.HTTPDownloader(progressbar=bar or False, chunk_size=CHUNK, timeout=TIMEOUT, hooks=hooks)
            try:
                http(url, limited, registry)
            except OSError as error:  # requests' own are OSErrors too
                status = getattr(getattr(error, "response", None), "status_code", 0)
                if 400 <= status < 500:
                    raise FetchError(f"expected the file, found HTTP status {status}") from None
                if isinstance(error, ValueError):  # a scheme or a URL, ours or redirected to, that requests refuses
                    raise FetchError(f"expected an http or https URL to follow, found: {error}") from None
                raise
            finally:
                for response in opened:  # after an error pooch leaves its connection open
                    response.close()

    return download


def _copy(path: Path, file: "_Limited", bar: Bar | None) -> None:
    if not path.is_file():
        raise FetchError("expected the file, found none")
    with path.open("rb") as source:
        if bar:
            bar.total = path.stat().st_size
        while chunk := source.read(CHUNK):
            file.write(chunk)
            if bar:
                bar.update(len(chunk))


class _Limited:
    """A file that takes at most ``limit`` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file = file
        self.limit = self.left = limit

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise FetchError(f"expected at most {self.limit:,} bytes, found more")
        self.file.write(data)

    def flush(self) -> None:
        """For pooch; the end of the block flushes."""


def _root(error: BaseException) -> str:
    """Return what the first of a chain of errors says: requests and urllib3 wrap it in paragraphs."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return str(error) or type(error).__name__
