"""Laws of a fetch that does not run undisturbed.

1. A full disk or an interrupt at any step leaves nothing half-written, and the next fetch succeeds.
2. Threads and processes that fetch at the same time all succeed.
"""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lstmq.workload.assets import file_name
from lstmq.workload.download import fetch
from workload.published import GOOD_MODEL, GOOD_TEXT, MODEL, PTH, TEXT, TEXTS, ZIP, Reply, contents, refusal

STEPS = pytest.mark.parametrize(
    ("asset", "step"),
    [
        (TEXT, "lstmq.workload.download._LimitedFile.write"),
        (TEXT, "zipfile.shutil.copyfileobj"),
        (TEXT, "lstmq.workload.assets._move"),
        (MODEL, "lstmq.workload.download._LimitedFile.write"),
        (MODEL, "lstmq.workload.assets.load_checkpoint"),
        (MODEL, "lstmq.workload.assets._move"),
    ],
)


def fail_at(step, error, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(step, fail)


def unexpected(folder):
    """Return the names of files other than lock files."""
    return {name for name in contents(folder) if not name.endswith(".lock")}


@STEPS
def test_full_disk_is_reported_and_leaves_nothing(tmp_path, mirror, asset, step, monkeypatch):
    fail_at(step, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), monkeypatch)
    message = refusal(asset, tmp_path, mirror.url, retries=2)
    assert message.startswith(f"{tmp_path}: no space for {mirror.url}/{file_name(asset)}, ")
    assert len(mirror.requests) == 1
    assert not unexpected(tmp_path)


@STEPS
def test_interrupt_leaves_nothing_and_the_next_fetch_succeeds(tmp_path, mirror, asset, step, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(step, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            fetch(asset, tmp_path, mirror.url)
    assert not unexpected(tmp_path)
    assert fetch(asset, tmp_path, mirror.url)


def test_fetch_does_not_trust_the_files_of_a_killed_process(tmp_path, mirror):
    """It left half a zip in its temporary folder, and had moved one of three files."""
    (tmp_path / ".fetch-killed").mkdir()
    (tmp_path / ".fetch-killed" / file_name(TEXT)).write_bytes(ZIP[:100])
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2" / "wiki.train.tokens").write_bytes(TEXTS["wiki.train.tokens"])
    assert fetch(TEXT, tmp_path, mirror.url)
    assert GOOD_TEXT.items() <= contents(tmp_path).items()


@pytest.mark.parametrize(("asset", "body"), [(TEXT, ZIP), (MODEL, PTH)], ids=["text", "model"])
def test_threads_that_fetch_at_the_same_time_all_succeed(tmp_path, mirror, asset, body):
    """All are in the middle of the download before any may finish. Then they verify and move at the same time."""
    resume = threading.Event()
    replies = [Reply(body, hold=resume) for _ in range(4)]
    mirror.reply(asset, *replies)
    origins = []
    threads = [
        threading.Thread(target=lambda: origins.append(fetch(asset, tmp_path, mirror.url))) for _ in range(len(replies))
    ]
    for thread in threads:
        thread.start()
    assert all(reply.started.wait(10) for reply in replies)
    resume.set()
    for thread in threads:
        thread.join()
    assert origins == [f"{mirror.url}/{file_name(asset)}"] * 4
    assert contents(tmp_path) == (GOOD_TEXT if asset is TEXT else GOOD_MODEL)
    assert fetch(asset, tmp_path, mirror.url) is None


FETCH_SMALL_ASSETS = """
import signal
import sys
import lstmq.workload.assets
from workload.published import MODEL, TEXT
lstmq.workload.assets.ASSETS.update({"wikitext-2": TEXT, "checkpoint": MODEL})
from lstmq.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
main(["fetch", *sys.argv[1:]])
"""


def start_command(*arguments):
    tests = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", FETCH_SMALL_ASSETS, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tests), "PYTHONWARNINGS": "error"},
    )


@pytest.mark.slow
def test_process_succeeds_while_another_in_the_same_folder_is_interrupted(tmp_path, mirror):
    resume = threading.Event()
    replies = [Reply(ZIP, hold=resume) for _ in range(2)]
    mirror.reply(TEXT, *replies)
    interrupted, process = (start_command("--dest", tmp_path, "--from", mirror.url) for _ in replies)
    assert all(reply.started.wait(60) for reply in replies)
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate(timeout=60)
    assert (interrupted.returncode, out, err.split()) == (130, "", ["lstmq:", "interrupted"])
    resume.set()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.count("verified") == 2
    assert contents(tmp_path) == GOOD_TEXT | GOOD_MODEL
