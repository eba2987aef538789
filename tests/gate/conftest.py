"""A fixture for tests that start worker processes."""

import subprocess
import tempfile

import pytest

from lstmq.gate import processes


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The processes that the test starts. Afterwards, none of them runs, and no temporary file is left."""
    started, popen = [], subprocess.Popen

    def record(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(processes.subprocess, "Popen", record)
    yield started
    assert all(process.returncode is not None for process in started)
    assert not list(temporary.iterdir())
