"""Fixtures for the tests of fetching."""

import threading

import pytest

from lstmq.workload.assets import ASSETS
from workload.published import MODEL, PTH, TEXT, ZIP, Reply, Server


@pytest.fixture
def server(monkeypatch):
    """A server on the loopback interface that answers as a test says."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits between attempts
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def mirror(server):
    """A server that answers with the published files."""
    server.reply(TEXT, Reply(ZIP))
    server.reply(MODEL, Reply(PTH))
    return server


@pytest.fixture
def small_assets(monkeypatch):
    """Let the command fetch the small files."""
    for name, asset in {"wikitext-2": TEXT, "checkpoint": MODEL}.items():
        monkeypatch.setitem(ASSETS, name, asset)
