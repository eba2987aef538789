"""Laws of fetching: what is there afterwards is what is published, or nothing is and one line says why.

Every law is held against a server on the loopback that misbehaves on purpose.
"""

import errno
import hashlib
import io
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from rich.progress import Progress

from lstmq import LSTMModel, ModelConfig
from lstmq.cli import main
from lstmq.cli.fetch import DownloadBar
from lstmq.workload import assets
from lstmq.workload.assets import CHECKPOINT, WIKITEXT_2, PinnedCheckpoint, TextArchive
from lstmq.workload.download import fetch
from lstmq.workload.loading import find_corpus, load_text_subject
from lstmq.workload.verification import FetchError, PublishedFile

CONFIG = ModelConfig(ntoken=9, ninp=4, nhid=3, nlayers=1)
TEXTS = {
    "wiki.train.tokens": b" = A = \n <unk> b c d e f\n",
    "wiki.valid.tokens": b" b c d\n" * 2,
    "wiki.test.tokens": b" d c b\n" * 100,
}


@dataclass
class Reply:
    """What the server says: more ``length`` than ``body`` is a cut connection, ``None`` says no length at all."""

    body: bytes = b""
    status: int = 200
    length: int | None = -1
    headers: dict[str, str] = field(default_factory=dict)
    started: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event | None = None  # before the second half


class Server(ThreadingHTTPServer):
    """Answers from ``replies``, by file name: a list is used up to its last."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, list[Reply]] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/mirror"

    def say(self, asset, *replies):
        self.replies[assets.file_name(asset)] = list(replies)

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
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
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def zip_bytes(members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)  # dated 1980, so that the bytes do not change
    return buffer.getvalue()


def published(name, content):
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return PublishedFile(
        name=name,
        size=len(content),
        crc32=zlib.crc32(content),
        git_sha1=git,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def archive_of(data):
    """The asset whose zip is ``data``, and that ought to hold the ``TEXTS``."""
    return TextArchive(
        name="wikitext-2",
        url="http://127.0.0.1:9/wikitext-2-v1.zip",
        limit=10_000,
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        files=tuple(published(name, text) for name, text in TEXTS.items()),
    )


ZIP = zip_bytes({"wikitext-2/": b""} | {f"wikitext-2/{name}": text for name, text in TEXTS.items()})
TEXT = archive_of(ZIP)
MODEL = PinnedCheckpoint(
    name="checkpoint", url="http://127.0.0.1:9/word_language_model_quantize.pth", limit=10_000, config=CONFIG
)


def state_bytes(seed=0, config=CONFIG, **extra):
    buffer = io.BytesIO()
    state = LSTMModel(config, torch.Generator().manual_seed(seed)).state_dict()
    torch.save(dict(state) | extra, buffer, _use_new_zipfile_serialization=False)  # as the published one
    return buffer.getvalue()


PTH = state_bytes()


@pytest.fixture
def mirror(server):
    """A server that behaves."""
    server.say(TEXT, Reply(ZIP))
    server.say(MODEL, Reply(PTH))
    return server


@pytest.fixture
def small_assets(monkeypatch):
    """The command fetches small ones."""
    monkeypatch.setattr("lstmq.workload.assets.ASSETS", {"wikitext-2": TEXT, "checkpoint": MODEL})
    monkeypatch.setattr("lstmq.cli.fetch.ASSETS", assets.ASSETS)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch's, between tries


def contents(folder):
    """Every file below ``folder``, hidden ones too, and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


GOOD_TEXT = {f"wikitext-2/{name}": text for name, text in TEXTS.items()}
GOOD_MODEL = {
    "word_language_model_quantize.pth": PTH,
    "word_language_model_quantize.pth.lock": f"{hashlib.sha256(PTH).hexdigest()}  "
    "word_language_model_quantize.pth\n".encode(),
}


def refusal(asset, folder, source, **kwargs):
    with pytest.raises(FetchError) as caught:
        fetch(asset, folder, source, **({"retries": 0} | kwargs))
    message = str(caught.value)
    assert "\n" not in message
    return message


# What goes well.


def test_what_is_published_is_there_afterwards_whole_and_nothing_else(tmp_path, mirror):
    assert fetch(TEXT, tmp_path, mirror.url) == f"{mirror.url}/wikitext-2-v1.zip"
    assert contents(tmp_path) == GOOD_TEXT
    assert fetch(MODEL, tmp_path, mirror.url + "/") == f"{mirror.url}/word_language_model_quantize.pth"
    assert contents(tmp_path) == GOOD_TEXT | GOOD_MODEL


def test_without_a_mirror_it_comes_from_where_it_is_published(tmp_path, mirror):
    asset = replace(TEXT, url=f"{mirror.url}/somewhere/wikitext-2-v1.zip")
    assert fetch(asset, tmp_path / "made" / "anew") == asset.url
    assert contents(tmp_path / "made" / "anew") == GOOD_TEXT


def test_a_local_folder_is_a_mirror(tmp_path):
    source, dest = tmp_path / "stick", tmp_path / "data"
    source.mkdir()
    (source / "wikitext-2-v1.zip").write_bytes(ZIP)
    (source / "word_language_model_quantize.pth").write_bytes(PTH)
    for asset in (TEXT, MODEL):
        fetch(asset, dest, str(source))
    assert contents(dest) == GOOD_TEXT | GOOD_MODEL


def test_what_is_there_and_good_is_not_asked_for_again(tmp_path, mirror):
    for asset in (TEXT, MODEL):
        fetch(asset, tmp_path, mirror.url)
    asked = list(mirror.asked)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert [fetch(asset, tmp_path, mirror.url) for asset in (TEXT, MODEL)] == [None, None]
    assert mirror.asked == asked
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", [*GOOD_TEXT, "word_language_model_quantize.pth"])
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"X" + b[1:], lambda b: b"", None])
def test_a_damaged_or_missing_file_is_fetched_again_and_replaced(tmp_path, mirror, name, damage):
    for asset in (TEXT, MODEL):
        fetch(asset, tmp_path, mirror.url)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    fetched = [fetch(asset, tmp_path, mirror.url) is not None for asset in (TEXT, MODEL)]
    assert fetched == [name in GOOD_TEXT, name not in GOOD_TEXT]
    assert contents(tmp_path) == GOOD_TEXT | GOOD_MODEL


def test_a_checkpoint_that_was_never_pinned_is_fetched_again(tmp_path, mirror):
    (tmp_path / "word_language_model_quantize.pth").write_bytes(b"from somewhere")
    assert fetch(MODEL, tmp_path, mirror.url)
    assert contents(tmp_path) == GOOD_MODEL


def test_files_get_the_usual_rights(tmp_path, mirror):
    (tmp_path / "usual").touch()
    for asset in (TEXT, MODEL):
        fetch(asset, tmp_path, mirror.url)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {stat.S_IMODE((tmp_path / "usual").stat().st_mode)}


@pytest.mark.parametrize("bad", [Reply(b"busy", 503), Reply(ZIP[:99], length=len(ZIP)), Reply(b"x" * len(ZIP))])
def test_a_broken_connection_or_a_wrong_hash_is_tried_again(tmp_path, server, bad, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.say(TEXT, bad, bad, Reply(ZIP))
    assert fetch(TEXT, tmp_path, server.url, retries=2)
    assert len(server.asked) == 3
    assert contents(tmp_path) == GOOD_TEXT


def test_a_redirect_to_http_is_followed(tmp_path, mirror):
    mirror.say(TEXT, Reply(status=302, headers={"Location": f"{mirror.url}/elsewhere.zip"}))
    mirror.replies["elsewhere.zip"] = [Reply(ZIP)]
    fetch(TEXT, tmp_path, mirror.url)
    assert contents(tmp_path) == GOOD_TEXT


@pytest.mark.parametrize("local", [True, False])
def test_the_bar_is_full_at_the_end_whatever_happened_before(tmp_path, server, local, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.say(TEXT, Reply(ZIP[:99], length=len(ZIP)), Reply(b"x" * 2000, length=None), Reply(ZIP))
    (tmp_path / "wikitext-2-v1.zip").write_bytes(ZIP)
    with Progress(console=Console(file=io.StringIO(), force_terminal=True)) as progress:
        bar = DownloadBar(progress, progress.add_task("wikitext-2", total=None))
        fetch(TEXT, tmp_path / "data", str(tmp_path) if local else server.url, bar)
        assert (progress.tasks[0].completed, progress.tasks[0].total) == (len(ZIP), len(ZIP))


# What does not: nothing is left, and one line says what was expected and what was found.


def test_the_first_fetch_pins_what_later_ones_must_be(tmp_path, mirror):
    fetch(MODEL, tmp_path, mirror.url)
    (tmp_path / "word_language_model_quantize.pth").unlink()
    other = state_bytes(seed=1)
    mirror.say(MODEL, Reply(other))
    message = refusal(MODEL, tmp_path, mirror.url)
    for digest in (hashlib.sha256(PTH).hexdigest(), hashlib.sha256(other).hexdigest()):
        assert digest in message
    lock = tmp_path / "word_language_model_quantize.pth.lock"
    assert message.endswith(f"Remove {lock} to accept another.")
    assert contents(tmp_path) == {lock.name: GOOD_MODEL[lock.name]}
    lock.unlink()
    fetch(MODEL, tmp_path, mirror.url)
    assert other in contents(tmp_path).values()


def test_a_process_that_is_slower_does_not_overrule_the_pin(tmp_path, mirror):
    """The pin appears while this one downloads."""
    other, theirs = state_bytes(seed=1), tmp_path / "theirs"
    slow = Reply(other, hold=threading.Event())
    mirror.say(MODEL, slow, Reply(PTH))
    messages = []
    thread = threading.Thread(target=lambda: messages.append(refusal(MODEL, theirs, mirror.url)))
    thread.start()
    assert slow.started.wait(10)
    fetch(MODEL, theirs, mirror.url)
    slow.hold.set()
    thread.join()
    assert f"expected SHA-256 {hashlib.sha256(PTH).hexdigest()}, found" in messages[0]
    assert contents(theirs) == GOOD_MODEL


@pytest.mark.parametrize("content", ["", "hello", "G" * 64, "a" * 63, "a" * 65])
def test_a_damaged_lock_is_named_not_guessed_at(tmp_path, mirror, content):
    (tmp_path / "word_language_model_quantize.pth.lock").write_text(content)
    message = refusal(MODEL, tmp_path, mirror.url)
    assert message.startswith(f"{tmp_path / 'word_language_model_quantize.pth.lock'}: expected 64 hexadecimal digits")
    assert not mirror.asked


@pytest.mark.parametrize("asset", [TEXT, MODEL], ids=["text", "model"])
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(b"gone", 404), "expected the file, found HTTP status 404"),
        (Reply(b"no", 403), "expected the file, found HTTP status 403"),
        (Reply(b"busy", 503), "expected the file, found 503 Server Error"),
        (Reply(b"x" * 600, length=1000), "expected the file, found IncompleteRead(600 bytes read, 400 more expected)"),
        (Reply(b"", length=1000), "expected the file, found IncompleteRead(0 bytes read, 1000 more expected)"),
        (Reply(b"x" * 10_001), "expected at most 10,000 bytes, found more"),
        (Reply(b"x" * 10_001, length=None), "expected at most 10,000 bytes, found more"),
        (Reply(status=302, headers={"Location": "file:///etc/passwd"}), "found: No connection adapters were found for"),
        (Reply(status=302, headers={"Location": "ftp://127.0.0.1/x"}), "found: No connection adapters were found for"),
        (
            Reply(status=302, headers={"Location": "x/wikitext-2-v1.zip"}),
            "expected the file, found Exceeded 30 redirec",
        ),
    ],
)
def test_a_server_that_does_not_give_the_file(tmp_path, server, asset, reply, message):
    server.say(asset, reply)
    server.replies["wikitext-2-v1.zip"] = [reply]
    line = refusal(asset, tmp_path, server.url)
    assert line.startswith(f"{server.url}/{assets.file_name(asset)}: ")
    assert message in line
    assert contents(tmp_path) == {}


def test_what_trying_again_does_not_mend_is_not_tried_again(tmp_path, server):
    refusal(TEXT, tmp_path, server.url, retries=2)
    assert len(server.asked) == 1


def test_nobody_at_the_door(tmp_path):
    line = refusal(TEXT, tmp_path, None)
    assert line == f"{TEXT.url}: expected the file, found [Errno {errno.ECONNREFUSED}] Connection refused"


def test_a_server_that_stops_talking(tmp_path, server, monkeypatch):
    monkeypatch.setattr("lstmq.workload.download.TIMEOUT", 0.2)
    reply = Reply(ZIP, hold=threading.Event())
    server.say(TEXT, reply)
    assert "expected the file, found timed out" in refusal(TEXT, tmp_path, server.url)
    reply.hold.set()
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("body", [ZIP[:-1], ZIP + b"x", b"<html>log in first</html>", b""])
def test_a_wrong_hash(tmp_path, server, body):
    server.say(TEXT, Reply(body, length=None))  # so that only the hash can tell
    line = refusal(TEXT, tmp_path, server.url)
    assert f"expected md5:{TEXT.md5} but got {hashlib.md5(body, usedforsecurity=False).hexdigest()}" in line
    assert contents(tmp_path) == {}


# Zips that hash to what is published, and still are not to be trusted.


def members(**changes):
    """The published members, some changed; ``None`` leaves one out."""
    return {f"wikitext-2/{name}": changes.get(name.split(".")[1], text) for name, text in TEXTS.items()}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>log in first</html>", "expected a zip, found a file that starts b'<html>log in fir'"),
        (b"", "expected a zip, found a file that starts b''"),
        (ZIP[:-30], "expected a zip, found a damaged one"),
        (zip_bytes({}), "expected wikitext-2/wiki.train.tokens in the zip, found nothing"),
        (zip_bytes(TEXTS), "expected wikitext-2/wiki.train.tokens in the zip, found wiki.train.tokens, "),
        (
            zip_bytes(members(train=TEXTS["wiki.train.tokens"].upper())),
            "wiki.train.tokens: expected CRC-32 ",
        ),
        (zip_bytes(members(valid=b"more" * 10)), "wiki.valid.tokens: expected 14 bytes, found 40 declared"),
        (zip_bytes(members(test=bytes(5_000_000))), "wiki.test.tokens: expected 700 bytes, found 5,000,000 declared"),
        (zip_bytes(members(), zipfile.ZIP_BZIP2), "expected it deflated or stored, found compression method 12"),
    ],
)
def test_a_zip_that_is_none_or_another(tmp_path, server, data, message):
    asset = archive_of(data)
    server.say(asset, Reply(data))
    assert message in refusal(asset, tmp_path, server.url)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "name",
    ["../out", "wikitext-2/../../out", "/out", "..\\out", "C:\\out", "wikitext-2/..", "\\\\host\\out"],
)
def test_a_zip_with_names_outside_its_folder(tmp_path, server, name):
    data = zip_bytes(members() | {name: b"out"})
    asset = archive_of(data)
    server.say(asset, Reply(data))
    line = refusal(asset, tmp_path / "a" / "b", server.url)
    assert f"expected names inside its folder, found {name!r}" in line
    assert contents(tmp_path) == {}


def test_a_zip_that_holds_more_than_it_declares(tmp_path, server):
    """A bomb that lies: its headers give the published size, its stream inflates to 5 MB."""
    name, bomb = "wikitext-2/wiki.test.tokens", bytes(5_000_000)
    data = bytearray(zip_bytes(members(test=bomb)))
    true, lie = (size.to_bytes(4, "little") for size in (len(bomb), len(TEXTS["wiki.test.tokens"])))
    assert data.count(true) == 2
    data = bytes(data.replace(true, lie))
    assert zipfile.ZipFile(io.BytesIO(data)).getinfo(name).file_size == len(TEXTS["wiki.test.tokens"])
    asset = archive_of(data)
    server.say(asset, Reply(data))
    assert "expected a zip, found a damaged one (Bad CRC-32 for file" in refusal(asset, tmp_path, server.url)
    assert contents(tmp_path) == {}


def test_a_damaged_zip_is_refused_or_good_but_never_a_surprise(tmp_path):
    """Without a server, for speed: the zip's own reader is what is tried."""
    source, dice = tmp_path / "source", random.Random(0)
    source.mkdir()
    for turn in range(300):
        data = bytearray(ZIP)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (source / "wikitext-2-v1.zip").write_bytes(data)
        folder = tmp_path / str(turn)
        try:
            fetch(archive_of(bytes(data)), folder, str(source))
        except FetchError as error:
            assert "\n" not in str(error)
            assert contents(folder) == {}
        else:
            assert contents(folder) == GOOD_TEXT


def test_only_published_names_are_written(tmp_path, server):
    data = zip_bytes(members() | {"wikitext-2/train.txt": b"more", "README": b"more"})
    asset = archive_of(data)
    server.say(asset, Reply(data))
    fetch(asset, tmp_path, server.url)
    assert contents(tmp_path) == GOOD_TEXT


# Checkpoints: their first fetch has only what they hold to go by.


def torch_zip_bomb():
    buffer = io.BytesIO()
    torch.save(dict(LSTMModel(CONFIG).state_dict()), buffer)
    with zipfile.ZipFile(buffer) as archive:
        names = {name: archive.read(name) for name in archive.namelist()}
    return zip_bytes(
        {name: bytes(2_000_000) if name.endswith("/data/0") else content for name, content in names.items()}
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>log in first</html>", "expected "),
        (b"", "word_language_model_quantize.pth is empty: expected a checkpoint"),
        (PTH[: len(PTH) // 2], "found a damaged or cut file"),
        (PTH[:-1], "expected "),
        (ZIP, "expected a PyTorch checkpoint, found a damaged or cut file"),
        (b"PK\x03\x04 is no zip", "expected a zip, found a damaged one"),
        (torch_zip_bomb(), "expected at most 10,000 bytes inside, found 2,0"),
        (state_bytes(extra=torch.ones(1)), "unexpected: the key extra"),
        (state_bytes(**{"decoder.bias": torch.full((9,), torch.nan)}), "expected finite numbers in decoder.bias"),
        (state_bytes(config=replace(CONFIG, nhid=4)), "expected a checkpoint of ModelConfig(ntoken=9, ninp=4, nhid=3"),
    ],
)
def test_a_checkpoint_that_is_none_or_another_is_neither_kept_nor_pinned(tmp_path, server, body, message):
    server.say(MODEL, Reply(body, length=None))  # so that only what it holds can tell
    line = refusal(MODEL, tmp_path, server.url)
    assert message in line
    assert ".fetch-" not in line
    assert contents(tmp_path) == {}


# The machine's own troubles.


STEPS = pytest.mark.parametrize(
    ("asset", "step"),
    [
        (TEXT, "lstmq.workload.download._Limited.write"),
        (TEXT, "lstmq.workload.verification.shutil.copyfileobj"),
        (TEXT, "lstmq.workload.assets._move"),
        (MODEL, "lstmq.workload.download._Limited.write"),
        (MODEL, "lstmq.model.checkpoint.load_checkpoint"),
        (MODEL, "lstmq.workload.assets._move"),
    ],
)


def fail_at(step, error, monkeypatch):
    def fail(*args):
        raise error

    monkeypatch.setattr(step, fail)


@STEPS
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, mirror, asset, step, monkeypatch):
    fail_at(step, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), monkeypatch)
    line = refusal(asset, tmp_path, mirror.url, retries=2)
    assert line.startswith(f"{tmp_path}: expected room for {mirror.url}/{assets.file_name(asset)}, found the disk full")
    assert len(mirror.asked) == 1
    assert not {name for name in contents(tmp_path) if not name.endswith(".lock")}


@STEPS
def test_an_interrupt_leaves_nothing_that_is_not_good(tmp_path, mirror, asset, step, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(step, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            fetch(asset, tmp_path, mirror.url)
    assert not {name for name in contents(tmp_path) if not name.endswith(".lock")}
    assert fetch(asset, tmp_path, mirror.url)  # and again, from the start


def test_a_killed_processes_leavings_are_not_taken_for_good(tmp_path, mirror):
    """Half a zip in its own folder, one of three files moved."""
    (tmp_path / ".fetch-killed").mkdir()
    (tmp_path / ".fetch-killed" / "wikitext-2-v1.zip").write_bytes(ZIP[:100])
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2" / "wiki.train.tokens").write_bytes(TEXTS["wiki.train.tokens"])
    assert fetch(TEXT, tmp_path, mirror.url)
    assert GOOD_TEXT.items() <= contents(tmp_path).items()


@pytest.mark.parametrize("asset", [TEXT, MODEL], ids=["text", "model"])
def test_two_at_once_end_with_one_good_copy_and_no_error(tmp_path, mirror, asset):
    """All are in the middle of the download before any may end; then they verify and move at once."""
    go = threading.Event()
    body = ZIP if asset is TEXT else PTH
    replies = [Reply(body, hold=go) for _ in range(4)]
    mirror.say(asset, *replies)
    outcomes = []

    def one():
        outcomes.append(fetch(asset, tmp_path, mirror.url))

    threads = [threading.Thread(target=one) for _ in replies]
    for thread in threads:
        thread.start()
    assert all(reply.started.wait(10) for reply in replies)
    go.set()
    for thread in threads:
        thread.join()
    assert outcomes == [f"{mirror.url}/{assets.file_name(asset)}"] * 4
    assert contents(tmp_path) == (GOOD_TEXT if asset is TEXT else GOOD_MODEL)
    assert fetch(asset, tmp_path, mirror.url) is None


SMALL_COMMAND = """
import signal
import sys
from lstmq.cli import fetch, main
from tests.test_assets import MODEL, TEXT
fetch.ASSETS.clear()
fetch.ASSETS.update({"wikitext-2": TEXT, "checkpoint": MODEL})
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
main(sys.argv[1:])
"""


def start_command(*args):
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_COMMAND, "fetch", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )


def test_two_processes_at_once_and_an_interrupt_in_the_middle(tmp_path, mirror):
    """One test of three processes, for each takes seconds to start."""
    go = threading.Event()
    replies = [Reply(ZIP, hold=go) for _ in range(3)]
    mirror.say(TEXT, *replies)
    processes = [start_command("--dest", tmp_path / "data", "--from", mirror.url) for _ in range(2)]
    processes.append(start_command("--dest", tmp_path / "other", "--from", mirror.url))
    assert all(reply.started.wait(60) for reply in replies)
    processes[2].send_signal(signal.SIGINT)
    out, err = processes[2].communicate(timeout=60)
    assert (processes[2].returncode, out, err.split()) == (130, "", ["lstmq:", "interrupted"])
    assert contents(tmp_path / "other") == {}
    go.set()
    for process in processes[:2]:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out.count("verified") == 2
    assert contents(tmp_path / "data") == GOOD_TEXT | GOOD_MODEL


# The command.


def run(*args):
    result = CliRunner().invoke(main, [*map(str, args)])
    assert not isinstance(result.exception, Exception), result.exception
    return result


def test_the_command_fetches_both_and_says_so(tmp_path, mirror, small_assets):
    result = run("fetch", "--dest", tmp_path, "--from", mirror.url)
    pth, sha256 = tmp_path / "word_language_model_quantize.pth", hashlib.sha256(PTH).hexdigest()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"wikitext-2: {tmp_path / 'wikitext-2'} (fetched from {mirror.url}/wikitext-2-v1.zip, verified)",
        f"checkpoint: {pth} (fetched from {mirror.url}/{pth.name}, verified)",
        f"SHA-256 {sha256}, pinned in {pth}.lock",
    ]
    again = run("fetch", "--dest", tmp_path, "--from", mirror.url)
    assert again.stdout.count("already there, verified") == 2
    assert len(mirror.asked) == 2


@pytest.mark.parametrize("what", ["wikitext-2", "checkpoint"])
def test_the_command_fetches_one(tmp_path, mirror, small_assets, what):
    assert run("fetch", what, "--dest", tmp_path, "--from", mirror.url).exit_code == 0
    assert contents(tmp_path) == (GOOD_TEXT if what == "wikitext-2" else GOOD_MODEL)


@pytest.mark.parametrize("body", [b"<html>", ZIP[:50]])
def test_an_error_of_the_command_is_one_line_and_two(tmp_path, server, small_assets, body):
    server.say(TEXT, Reply(body))
    result = run("fetch", "--dest", tmp_path, "--from", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"lstmq: error: {server.url}/wikitext-2-v1.zip: MD5 hash of downloaded file")
    assert result.stderr.count("\n") == 1
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("source", ["ftp://host/x", "file:///x", "nowhere", "https:/host", "http://"])
def test_a_source_that_is_none_is_refused(tmp_path, source, small_assets):
    result = run("fetch", "--dest", tmp_path, "--from", source)
    assert result.exit_code == 2
    assert result.stderr == (
        f"lstmq: error: expected an http or https URL or a folder to fetch from, found {source!r}\n"
    )


def test_a_folder_without_the_file_is_refused(tmp_path, small_assets):
    result = run("fetch", "--dest", tmp_path / "data", "--from", tmp_path)
    assert result.stderr == f"lstmq: error: {tmp_path / 'wikitext-2-v1.zip'}: expected the file, found none\n"


def test_a_destination_that_is_a_file_is_named(tmp_path, mirror, small_assets):
    (tmp_path / "data").touch()
    result = run("fetch", "--dest", tmp_path / "data", "--from", mirror.url)
    assert result.exit_code == 2
    assert str(tmp_path / "data") in result.stderr
    assert result.stderr.count("\n") == 1


# What is fetched is found by name.


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_name_means_what_was_fetched_and_the_origin_says_so(here, mirror):
    for asset in (TEXT, MODEL):
        fetch(asset, source=mirror.url)
    subject = load_text_subject(Path("wikitext-2"))
    assert subject.model.config.ntoken == len(subject.dictionary) == 9
    pth = Path("data", "word_language_model_quantize.pth")
    assert subject.origin == f"{pth}, 9/4/3/1, on 400 tokens of {Path('data', 'wikitext-2')}'s test split"
    assert load_text_subject(Path("data/wikitext-2"), pth, Path("wikitext-2")).origin == subject.origin


def test_a_folder_of_that_name_here_wins(here, mirror):
    for asset in (TEXT, MODEL):
        fetch(asset, source=mirror.url)
    Path("data/wikitext-2").rename("wikitext-2")
    assert find_corpus(Path("wikitext-2")) == Path("wikitext-2")
    assert "tokens of wikitext-2's test split" in load_text_subject(Path("wikitext-2")).origin


def test_a_given_checkpoint_is_used_with_the_fetched_text(here, mirror):
    fetch(TEXT, source=mirror.url)
    Path("mine.pth").write_bytes(PTH)
    assert load_text_subject(Path("wikitext-2"), Path("mine.pth")).origin.startswith(
        "mine.pth, 9/4/3/1, on 400 tokens of data"
    )


@pytest.mark.parametrize("fetched", [[], [TEXT], [MODEL]])
@pytest.mark.parametrize("command", ["compare", "evaluate", "generate"])
def test_what_was_not_fetched_is_told_how_to_be(here, mirror, fetched, command):
    for asset in fetched:
        fetch(asset, source=mirror.url)
    missing = Path("data", "word_language_model_quantize.pth" if TEXT in fetched else "wikitext-2")
    result = run(command, "--corpus", "wikitext-2")
    assert result.exit_code == 2
    assert result.stderr == (
        f"lstmq: error: no {missing} here, which the name wikitext-2 means: run `lstmq fetch` first\n"
    )


def test_compare_and_the_benchmarks_run_on_what_was_fetched_and_say_so(here, mirror):
    for asset in (TEXT, MODEL):
        fetch(asset, source=mirror.url)
    pth = Path("data", "word_language_model_quantize.pth")
    line = f"{pth}, 9/4/3/1, on 350 tokens of {Path('data', 'wikitext-2')}'s test split"
    options = ["--corpus", "wikitext-2", "--tokens", "350"]
    compared = run("compare", *options)
    assert compared.exit_code == 0
    assert f"measured on: {line}" in compared.stdout
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", root / "pyproject.toml", *options]
    result = subprocess.run([*command, root / "benchmarks" / "test_corpus.py"], capture_output=True, text=True)
    assert f"speed and size: {line}" in result.stdout  # whatever the verdict on so small a text


# The table.


def test_limits_leave_room_for_what_is_published():
    assert sum(file.size for file in WIKITEXT_2.files) < WIKITEXT_2.limit
    numbers = 33_278 * 512 + 33_278 * 257 + 4 * 256 * ((512 + 256 + 2) + 4 * (256 + 256 + 2))
    assert 4 * numbers < CHECKPOINT.limit < 4.3 * numbers
    assert CHECKPOINT.config == ModelConfig(ntoken=33_278, ninp=512, nhid=256, nlayers=5)
