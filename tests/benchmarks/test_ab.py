"""Laws of ``tox -e ab -- OLD NEW``: it builds both, and gates the new environment against the old one.

Scripts stand in for tox and for both Pythons. They write down how they were called.
"""

import sys

import pytest

import ab

TOX = """#!/bin/sh
echo "tox $*" >> '{folder}/calls'
case $1 in
  run) exit {exit_code} ;;
  config) echo "[testenv:$3]"; echo "env_python = {folder}/$3" ;;
esac
"""
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >> '{folder}/calls'
exit 10
"""


@pytest.fixture
def run_ab(tmp_path, monkeypatch):
    """A function that runs ``ab.py`` and returns the exit code, and the calls of tox and Python."""

    def run(*arguments, tox_exit_code=0):
        scripts = {"tox": TOX, "py311-torch2.13": PYTHON, "py311-torch2.15": PYTHON}
        for name, text in scripts.items():
            script = text.format(folder=tmp_path, exit_code=tox_exit_code)
            (tmp_path / name).write_text(script, encoding="utf-8")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(sys, "argv", ["ab.py", *arguments])
        exit_code = ab.main()
        calls = tmp_path / "calls"
        return exit_code, calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []

    return run


def test_ab_builds_both_and_gates_the_second_against_the_first(run_ab, tmp_path):
    exit_code, calls = run_ab("torch2.13", "torch2.15", "--gate-scheme", "int8")
    assert exit_code == 10  # pytest's
    assert calls[0] == "tox run --notest -e py311-torch2.13,py311-torch2.15"
    options = f"--gate-against {tmp_path / 'py311-torch2.13'} --gate-scheme int8"
    assert calls[-1] == f"py311-torch2.15 -P -m pytest benchmarks {options}"


def test_ab_measures_nothing_if_tox_cannot_build(run_ab, capfd):
    exit_code, calls = run_ab("torch2.13", "torch9.9", tox_exit_code=1)
    assert exit_code == 2
    assert len(calls) == 1
    assert "tox could not build py311-torch2.13 and py311-torch9.9" in capfd.readouterr().err


def test_ab_expects_two_environments(run_ab, capfd):
    assert run_ab("torch2.13") == (2, [])
    assert "expected two environments, as in `tox -e ab -- torch2.13 torch2.15`" in capfd.readouterr().err
