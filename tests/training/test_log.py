"""Laws of the log of a run.

1. A new run starts a new log. A resumed run removes the lines that it writes again.
2. Another file is not overwritten.
"""

import os
from pathlib import Path

import pytest

from lstmq.training.log import TrainingLog, plot_log


def write_epoch(log, epoch):
    for step in (1, 2):
        log.write("step", epoch, step, steps=2, loss=3.0)
    log.write("epoch", epoch, 2, train_loss=3.0, valid_loss=3.0)


@pytest.fixture
def path(tmp_path):
    """The log of a run of two epochs."""
    path = tmp_path / "log"
    with TrainingLog(path) as log:
        write_epoch(log, 1)
        write_epoch(log, 2)
    return path


def test_new_run_starts_a_new_log(path):
    with TrainingLog(path) as log:
        log.write("step", 1, 1)
    assert path.read_text() == '{"event": "step", "epoch": 1, "step": 1}\n'


@pytest.mark.parametrize(("epoch", "step", "lines"), [(0, 1, 1), (0, 2, 2), (1, 0, 3), (1, 1, 4), (1, 2, 5), (2, 0, 6)])
def test_resumed_run_keeps_the_lines_before_its_position(path, epoch, step, lines):
    before = path.read_text()
    path.write_text(before + '{"event": "st')  # cut in the middle of a line
    with TrainingLog(path, epoch, step):
        pass
    assert path.read_text().splitlines() == before.splitlines()[:lines]


def test_resumed_run_appends_to_the_log(path):
    before = path.read_text()
    with TrainingLog(path, 1, 0) as log:
        write_epoch(log, 2)
    assert path.read_text() == before


@pytest.mark.parametrize("line", ["text", "{}", "[]", '{"event": "step", "epoch": null}'])
def test_another_file_is_refused_and_kept(tmp_path, line):
    (tmp_path / "log").write_text(line + "\n")
    with pytest.raises(ValueError, match="log is not the log of a run"):
        TrainingLog(tmp_path / "log", 1, 0)
    assert (tmp_path / "log").read_text() == line + "\n"


def test_pipe_is_refused():
    """Reading it would block."""
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="expected a file to write to, because it is read again, found a"):
        TrainingLog(Path(f"/dev/fd/{writer}"), 1, 0)
    os.close(reader)
    os.close(writer)


def test_plot_draws_the_log(path, tmp_path):
    plot_log(path, tmp_path / "losses.svg")
    assert "<svg" in (tmp_path / "losses.svg").read_text(encoding="utf-8")
