"""Laws of fetching.

1. Afterwards, the folder holds exactly the published files, or nothing new.
2. Undamaged files are not downloaded again; damaged ones are replaced.
3. The first fetch of a checkpoint fixes its SHA-256 for later ones.
4. A failed download is an error of one line that names the URL and the reason.
"""

import errno
import hashlib
import stat
import threading
from dataclasses import replace

import pytest

from lstmq.model import ModelConfig
from lstmq.workload.assets import ASSETS, CHECKPOINT, WIKITEXT_2, file_name
from lstmq.workload.download import fetch
from workload.published import GOOD_MODEL, GOOD_TEXT, MODEL, PTH, TEXT, ZIP, Reply, checkpoint_bytes, contents, refusal

BOTH = pytest.mark.parametrize("asset", [TEXT, MODEL], ids=["text", "model"])

# Law 1.


def test_fetch_leaves_the_published_files_and_nothing_else(tmp_path, mirror):
    assert fetch(TEXT, tmp_path, mirror.url) == f"{mirror.url}/wikitext-2-v1.zip"
    assert contents(tmp_path) == GOOD_TEXT
    assert fetch(MODEL, tmp_path, mirror.url + "/") == f"{mirror.url}/word_language_model_quantize.pth"
    assert contents(tmp_path) == GOOD_TEXT | GOOD_MODEL


def test_fetch_without_a_source_uses_the_published_url_and_creates_the_folder(tmp_path, mirror):
    asset = replace(TEXT, url=f"{mirror.url}/somewhere/wikitext-2-v1.zip")
    assert fetch(asset, tmp_path / "new" / "folder") == asset.url
    assert contents(tmp_path / "new" / "folder") == GOOD_TEXT


def test_fetch_copies_from_a_local_folder(tmp_path):
    source, folder = tmp_path / "stick", tmp_path / "data"
    source.mkdir()
    (source / file_name(TEXT)).write_bytes(ZIP)
    (source / file_name(MODEL)).write_bytes(PTH)
    for asset in (TEXT, MODEL):
        assert fetch(asset, folder, str(source)) == str(source / file_name(asset))
    assert contents(folder) == GOOD_TEXT | GOOD_MODEL


def test_fetched_files_have_the_usual_permissions(tmp_path, mirror):
    (tmp_path / "usual").touch()
    for asset in (TEXT, MODEL):
        fetch(asset, tmp_path, mirror.url)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {stat.S_IMODE((tmp_path / "usual").stat().st_mode)}


def test_fetch_follows_a_redirect(tmp_path, server):
    server.reply(TEXT, Reply(status=302, headers={"Location": f"{server.url}/elsewhere.zip"}))
    server.replies["elsewhere.zip"] = [Reply(ZIP)]
    fetch(TEXT, tmp_path, server.url)
    assert contents(tmp_path) == GOOD_TEXT


# Law 2.


def test_fetch_does_not_download_undamaged_files_again(tmp_path, mirror):
    for asset in (TEXT, MODEL):
        fetch(asset, tmp_path, mirror.url)
    requests = list(mirror.requests)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert [fetch(asset, tmp_path, mirror.url) for asset in (TEXT, MODEL)] == [None, None]
    assert mirror.requests == requests
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", ["wikitext-2/wiki.train.tokens", "wikitext-2/wiki.test.tokens", file_name(MODEL)])
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"X" + b[1:], lambda b: b"", None])
def test_fetch_replaces_a_damaged_or_missing_file(tmp_path, mirror, name, damage):
    for asset in (TEXT, MODEL):
        fetch(asset, tmp_path, mirror.url)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    fetched = [fetch(asset, tmp_path, mirror.url) is not None for asset in (TEXT, MODEL)]
    assert fetched == [name in GOOD_TEXT, name not in GOOD_TEXT]
    assert contents(tmp_path) == GOOD_TEXT | GOOD_MODEL


# Law 3.


def test_fetch_replaces_a_checkpoint_without_a_lock_file(tmp_path, mirror):
    (tmp_path / file_name(MODEL)).write_bytes(b"from somewhere")
    assert fetch(MODEL, tmp_path, mirror.url)
    assert contents(tmp_path) == GOOD_MODEL


def test_fetch_refuses_another_checkpoint_until_the_lock_file_is_deleted(tmp_path, mirror):
    fetch(MODEL, tmp_path, mirror.url)
    (tmp_path / file_name(MODEL)).unlink()
    other = checkpoint_bytes(seed=1)
    mirror.reply(MODEL, Reply(other))
    message = refusal(MODEL, tmp_path, mirror.url)
    for digest in (hashlib.sha256(PTH).hexdigest(), hashlib.sha256(other).hexdigest()):
        assert digest in message
    lock = MODEL.lock(tmp_path)
    assert message.endswith(f"Delete {lock} to accept another hash.")
    assert contents(tmp_path) == {lock.name: GOOD_MODEL[lock.name]}
    lock.unlink()
    fetch(MODEL, tmp_path, mirror.url)
    assert other in contents(tmp_path).values()


def test_fetch_obeys_a_lock_file_that_appears_during_the_download(tmp_path, mirror):
    folder = tmp_path / "data"
    slow = Reply(checkpoint_bytes(seed=1), hold=threading.Event())
    mirror.reply(MODEL, slow, Reply(PTH))
    messages = []
    thread = threading.Thread(target=lambda: messages.append(refusal(MODEL, folder, mirror.url)))
    thread.start()
    assert slow.started.wait(10)
    fetch(MODEL, folder, mirror.url)
    slow.hold.set()
    thread.join()
    assert f"expected sha256:{hashlib.sha256(PTH).hexdigest()}, found sha256:" in messages[0]
    assert contents(folder) == GOOD_MODEL


@pytest.mark.parametrize("content", ["", "hello", "G" * 64, "a" * 63, "a" * 65])
def test_fetch_refuses_a_damaged_lock_file(tmp_path, mirror, content):
    lock = MODEL.lock(tmp_path)
    lock.write_text(content)
    assert refusal(MODEL, tmp_path, mirror.url).startswith(f"{lock}: expected 64 hexadecimal digits")
    assert not mirror.requests


# Law 4.


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(b"gone", 404), "the server answers with HTTP status 404"),
        (Reply(b"no", 403), "the server answers with HTTP status 403"),
        (Reply(b"busy", 503), "the download failed: 503 Server Error"),
        (Reply(b"x" * 600, length=1000), "the download failed: IncompleteRead(600 bytes read, 400 more expected)"),
        (Reply(b"", length=1000), "the download failed: IncompleteRead(0 bytes read, 1000 more expected)"),
        (Reply(b"x" * 10_001), "expected at most 10,000 bytes, found more"),
        (Reply(b"x" * 10_001, length=None), "expected at most 10,000 bytes, found more"),
        (
            Reply(status=302, headers={"Location": "file:///etc/passwd"}),
            "expected an http or https URL, found: No conn",
        ),
        (Reply(status=302, headers={"Location": "ftp://127.0.0.1/x"}), "expected an http or https URL, found: No conn"),
        (Reply(status=302, headers={"Location": "x/wikitext-2-v1.zip"}), "the download failed: Exceeded 30 redirects"),
    ],
)
def test_fetch_reports_a_server_that_does_not_send_the_file(tmp_path, server, reply, reason):
    server.reply(TEXT, reply)
    message = refusal(TEXT, tmp_path, server.url)
    assert message.startswith(f"{server.url}/{file_name(TEXT)}: {reason}")
    assert contents(tmp_path) == {}


def test_fetch_reports_a_refused_connection(tmp_path):
    message = refusal(TEXT, tmp_path, None)
    assert message == f"{TEXT.url}: the download failed: [Errno {errno.ECONNREFUSED}] Connection refused"


def test_fetch_reports_a_server_that_stops_sending(tmp_path, server, monkeypatch):
    monkeypatch.setattr("lstmq.workload.download.TIMEOUT", 0.1)
    reply = Reply(ZIP, hold=threading.Event())
    server.reply(TEXT, reply)
    assert "the download failed: timed out" in refusal(TEXT, tmp_path, server.url)
    reply.hold.set()
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("body", [ZIP[:-1], ZIP + b"x", b"<html>log in first</html>", b""])
def test_fetch_reports_a_wrong_hash(tmp_path, server, body):
    server.reply(TEXT, Reply(body, length=None))  # without a length, only the hash is wrong
    message = refusal(TEXT, tmp_path, server.url)
    assert f"expected md5:{TEXT.md5} but got {hashlib.md5(body, usedforsecurity=False).hexdigest()}" in message
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("bad", [Reply(b"busy", 503), Reply(ZIP[:99], length=len(ZIP)), Reply(b"x" * len(ZIP))])
def test_fetch_tries_again_after_a_broken_connection_or_a_wrong_hash(tmp_path, server, bad):
    server.reply(TEXT, bad, bad, Reply(ZIP))
    assert fetch(TEXT, tmp_path, server.url, retries=2)
    assert len(server.requests) == 3
    assert contents(tmp_path) == GOOD_TEXT


def test_fetch_does_not_try_again_after_status_404(tmp_path, server):
    refusal(TEXT, tmp_path, server.url, retries=2)
    assert len(server.requests) == 1


@pytest.mark.parametrize("local", [True, False])
def test_all_bytes_are_reported_at_the_end_after_failed_attempts(tmp_path, server, local):
    server.reply(TEXT, Reply(ZIP[:99], length=len(ZIP)), Reply(b"x" * 2000, length=None), Reply(ZIP))
    (tmp_path / file_name(TEXT)).write_bytes(ZIP)
    reports = []
    fetch(TEXT, tmp_path / "data", str(tmp_path) if local else server.url, lambda *report: reports.append(report))
    assert reports[-1] == (len(ZIP), len(ZIP))


# The published files themselves.


def test_limits_are_just_above_the_published_sizes():
    assert ASSETS == {"wikitext-2": WIKITEXT_2, "checkpoint": CHECKPOINT}
    assert 10_797_148 + 1_121_681 + 1_256_449 < WIKITEXT_2.limit < 14_000_001
    weights = 33_278 * 512 + 33_278 * 257 + 4 * 256 * ((512 + 256 + 2) + 4 * (256 + 256 + 2))
    assert 4 * weights < CHECKPOINT.limit < 4.3 * weights
    assert CHECKPOINT.config == ModelConfig(ntoken=33_278, ninp=512, nhid=256, nlayers=5)
