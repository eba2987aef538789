"""Laws of a run's log: it begins with the run, is cut back to where the run goes on, and is never another's."""

import os
from pathlib import Path

import pytest

from lstmq.training import log


def test_a_log_is_cut_back_to_where_a_run_goes_on(tmp_path):
    path = tmp_path / "log"
    with log.TrainingLog(path) as log:
        for epoch in (1, 2):
            for step in (1, 2):
                log.write("step", epoch, step)
            log.write("epoch", epoch, 2)
    whole = path.read_text()
    path.write_text(whole + '{"event": "st')  # cut in the middle of a line
    with log.TrainingLog(path, 0, 2):
        assert path.read_text().count("\n") == 2  # the epoch's own line comes again when it is finished again
    path.write_text(whole + '{"event": "st')
    with log.TrainingLog(path, 1, 1) as log:
        log.write("step", 2, 2)
        log.write("epoch", 2, 2)
    assert path.read_text() == whole


def test_a_new_run_begins_a_new_log(tmp_path):
    (tmp_path / "log").write_text("old")
    with log.TrainingLog(tmp_path / "log") as log:
        log.write("step", 1, 1)
    assert (tmp_path / "log").read_text() == '{"event": "step", "epoch": 1, "step": 1}\n'


@pytest.mark.parametrize("line", ["text", "{}", "[]", '{"event": "step", "epoch": null}'])
def test_what_is_no_log_is_refused_by_name(tmp_path, line):
    (tmp_path / "log").write_text(line + "\n")
    with pytest.raises(ValueError, match="log is not the log of a run"):
        log.TrainingLog(tmp_path / "log", 1, 0)
    assert (tmp_path / "log").read_text() == line + "\n"


def test_a_log_is_a_file():
    """A resumed run reads it, which of a pipe it would wait for ever to do."""
    reader, writer = os.pipe()
    with pytest.raises(ValueError, match="expected a file for the log"):
        log.TrainingLog(Path(f"/dev/fd/{writer}"), 1, 0)
    os.close(reader)
    os.close(writer)


def test_drawing_without_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'lstmq\[plot\]'"):
        log.check_figure_path(tmp_path / "plot.png")
