"""Downloads an asset from its URL, a mirror or a folder: :func:`fetch`."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.parse import urlsplit

import pooch

from lstmq.errors import one_line
from lstmq.workload.assets import DATA, Asset, FetchError, PinnedCheckpoint, file_name

CHUNK = 1 << 16  # bytes
TIMEOUT = 30  # seconds without a byte
OnBytes = Callable[[int, int], object]


def fetch(
    asset: Asset,
    folder: Path = DATA,
    source: str | None = None,
    on_bytes: OnBytes = lambda _size, _total: None,
    retries: int = 2,
) -> str | None:
    """Download an asset, verify it, and move it into a folder. Do nothing if the folder holds it undamaged.

    If the download fails or is interrupted, the folder holds nothing new. Several processes may fetch at once.

    Args:
        asset: a value of :data:`~lstmq.workload.ASSETS`.
        folder: the folder to move the asset into. It is created if it does not exist.
        source: a mirror or a local folder that holds the file under its published name; ``None`` for the published URL.
        on_bytes: called with the number of bytes so far, and with the total or 0 if it is unknown.
        retries: number of further attempts after a broken connection or a wrong hash.

    Returns:
        The URL or path of the downloaded file; ``None`` if nothing was downloaded.

    Raises:
        ValueError: if ``source`` is neither an http or https URL nor a folder.
        FetchError: if the download fails, or the file is not the published one.
        OSError: if ``folder`` cannot be written to.
    """
    name = file_name(asset)
    url = asset.url if source is None else _join(source, name)
    if asset.is_good(folder):
        return None
    known_hash = asset.known_hash(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # The path is absolute, because pooch would replace a ~ in a relative one.
        with TemporaryDirectory(dir=folder.resolve(), prefix=".fetch-") as temporary:
            registry = pooch.create(
                temporary, "", registry={name: known_hash}, urls={name: url}, retry_if_failed=retries
            )
            asset.install(Path(registry.fetch(name, downloader=_downloader(asset.limit, on_bytes))), folder)
    except FetchError as error:
        raise FetchError(f"{url}: {error}") from None
    except ValueError as error:  # from pooch, about a wrong hash
        hint = f" Delete {asset.lock(folder)} to accept another hash." if isinstance(asset, PinnedCheckpoint) else ""
        raise FetchError(f"{url}: {one_line(error)}{hint}") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(folder).free
            raise FetchError(f"{folder}: no space for {url}, {free:,} bytes are free") from None
        if error.filename is not None:  # about a local file, which the message names
            raise
        raise FetchError(f"{url}: the download failed: {_first_message(error)}") from None
    return url


def _join(source: str, name: str) -> str:
    """Return the URL or path of a file in a mirror or folder."""
    parts = urlsplit(source)
    if parts.scheme in ("http", "https") and parts.netloc:
        return f"{source.rstrip('/')}/{name}"
    if not Path(source).is_dir():
        raise ValueError(f"expected an http or https URL or a folder to fetch from, found {source!r}")
    return str(Path(source) / name)


def _downloader(limit: int, on_bytes: OnBytes) -> Callable[[str, str, pooch.Pooch], None]:
    """Return the function that pooch calls to download ``url`` to the path ``output``.

    pooch tries again after a ``ValueError`` or an error of requests. This function raises :class:`FetchError` instead
    where another attempt would fail too.
    """

    def download(url: str, output: str, registry: pooch.Pooch) -> None:
        with Path(output).open("wb") as file:
            limited = _LimitedFile(file, limit, on_bytes)
            if "://" in url:
                _download(url, limited, registry)
            else:
                _copy(Path(url), limited)

    return download


def _download(url: str, file: "_LimitedFile", registry: pooch.Pooch) -> None:
    responses: list[Any] = []

    def on_response(response: Any, **_: object) -> None:
        responses.append(response)
        file.total = int(response.headers.get("content-length", 0))

    http = pooch.HTTPDownloader(chunk_size=CHUNK, timeout=TIMEOUT, hooks={"response": on_response})
    try:
        http(url, file, registry)
    except OSError as error:  # the errors of requests are OSErrors
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if 400 <= status < 500:
            raise FetchError(f"the server answers with HTTP status {status}") from None
        if isinstance(error, ValueError):  # about the scheme of a URL
            raise FetchError(f"expected an http or https URL, found: {one_line(error)}") from None
        raise
    finally:
        for response in responses:  # pooch leaves the connection open after an error
            response.close()


def _copy(path: Path, file: "_LimitedFile") -> None:
    if not path.is_file():
        raise FetchError("no such file")
    file.total = path.stat().st_size
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            file.write(chunk)


class _LimitedFile:
    """A file that accepts at most ``limit`` bytes, and reports how many it has. ``total`` is 0 while it is unknown."""

    def __init__(self, file: IO[bytes], limit: int, on_bytes: OnBytes) -> None:
        self.file, self.limit, self.on_bytes = file, limit, on_bytes
        self.size = self.total = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.limit:
            raise FetchError(f"expected at most {self.limit:,} bytes, found more")
        self.file.write(data)
        self.on_bytes(self.size, self.total)

    def flush(self) -> None:
        """Do nothing. pooch calls it."""


def _first_message(error: BaseException) -> str:
    """Return the message of the first error in a chain. requests and urllib3 wrap it in longer ones."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return str(error) or one_line(error)
