"""Small published files, a server that can misbehave, and helpers for the tests of fetching."""

import hashlib
import io
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from lstmq import LSTMModel, ModelConfig
from lstmq.workload.assets import FetchError, PinnedCheckpoint, TextArchive, file_name
from lstmq.workload.download import fetch

CONFIG = ModelConfig(ntoken=9, ninp=4, nhid=3, nlayers=1)
TEXTS = {
    "wiki.train.tokens": b" = A = \n <unk> b c d e f\n",
    "wiki.valid.tokens": b" b c d\n" * 2,
    "wiki.test.tokens": b" d c b\n" * 100,
}


def members(**changes):
    """Return the contents of the published zip by name, with changed contents for some splits."""
    return {f"wikitext-2/{name}": changes.get(name.split(".")[1], text) for name, text in TEXTS.items()}


def zip_bytes(contents, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(
                zipfile.ZipInfo(name), content, method
            )  # dated 1980, so that the bytes are always the same
    return buffer.getvalue()


def archive_of(data):
    """Return the asset whose zip is ``data``, and which should contain the ``TEXTS``."""
    files = {name: f"sha256:{hashlib.sha256(text).hexdigest()}" for name, text in TEXTS.items()}
    return TextArchive(
        name="wikitext-2",
        url="http://127.0.0.1:9/wikitext-2-v1.zip",  # nothing listens there
        limit=10_000,
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        # From `git hash-object`.
        files=files | {"wiki.train.tokens": "git:c8b565d3abba1b526e7cd639bdca70147a016a02"},
    )


def checkpoint_bytes(seed=0, config=CONFIG, **extra):
    buffer = io.BytesIO()
    state = LSTMModel(config, torch.Generator().manual_seed(seed)).state_dict()
    torch.save(dict(state) | extra, buffer, _use_new_zipfile_serialization=False)  # like the published checkpoint
    return buffer.getvalue()


ZIP = zip_bytes({"wikitext-2/": b""} | members())
TEXT = archive_of(ZIP)
PTH = checkpoint_bytes()
MODEL = PinnedCheckpoint(
    name="checkpoint", url="http://127.0.0.1:9/word_language_model_quantize.pth", limit=10_000, config=CONFIG
)

# The contents of a folder after fetching.
GOOD_TEXT = members()
GOOD_MODEL = {
    file_name(MODEL): PTH,
    f"{file_name(MODEL)}.lock": f"{hashlib.sha256(PTH).hexdigest()}  {file_name(MODEL)}\n".encode(),
}


def contents(folder):
    """Return the bytes of every file below a folder, including hidden files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(asset, folder, source, **options):
    """Return the message of the error from fetching, which must be one line."""
    with pytest.raises(FetchError) as caught:
        fetch(asset, folder, source, **({"retries": 0} | options))
    message = str(caught.value)
    assert "\n" not in message
    return message


@dataclass
class Reply:
    """An answer of the server.

    A ``length`` above that of ``body`` cuts the connection. ``None`` omits the length. ``hold`` delays the second half.
    """

    body: bytes = b""
    status: int = 200
    length: int | None = -1
    headers: dict[str, str] = field(default_factory=dict)
    started: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event | None = None


class Server(ThreadingHTTPServer):
    """Answers with ``replies``, by file name, one after the other. The last one repeats."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, list[Reply]] = {}
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/mirror"

    def reply(self, asset, *replies):
        self.replies[file_name(asset)] = list(replies)

    def handle_error(self, request, client_address):
        """Ignore clients that close the connection."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.requests.append(name)
        replies = self.server.replies.get(name, [Reply(b"not here", 404)])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        self.send_response(reply.status)
        if reply.length is not None:
            self.send_header("Content-Length", str(len(reply.body) if reply.length < 0 else reply.length))
        for key, value in reply.headers.items():
            self.send_header(key, value)
        self.end_headers()
        half = len(reply.body) // 2
        self.wfile.write(reply.body[:half])
        self.wfile.flush()
        reply.started.set()
        if reply.hold:
            reply.hold.wait(20)
        self.wfile.write(reply.body[half:])

    def log_message(self, *args):
        """Print nothing."""
