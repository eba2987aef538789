"""``tox -e ab -- OLD NEW``: the new environment is here and is judged, the old one is there. tox is made up."""

import sys

import pytest

import ab

TOX = """#!/bin/sh
echo "tox $*" >> '{folder}/said'
case $1 in
  run) exit {code} ;;
  config) echo "[testenv:$3]"; echo "env_python = {folder}/$3" ;;
esac
"""
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >> '{folder}/said'
exit 10
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Give ``run("torch2.13", ...)``: the exit code, and what was called; building ends with ``code``."""

    def run(*arguments, code=0):
        scripts = {"tox": TOX, "py311-torch2.13": PYTHON, "py311-torch2.15": PYTHON}
        for name, text in scripts.items():
            (tmp_path / name).write_text(text.format(folder=tmp_path, code=code), encoding="utf-8")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(sys, "argv", ["ab.py", *arguments])
        ended = ab.main()
        said = tmp_path / "said"
        return ended, said.read_text(encoding="utf-8").splitlines() if said.exists() else []

    return run


def test_both_are_built_and_the_second_is_held_against_the_first(run, tmp_path):
    code, said = run("torch2.13", "torch2.15", "--scheme", "int8")
    assert code == 10  # pytest's
    assert said[0] == "tox run --notest -e py311-torch2.13,py311-torch2.15"
    there = tmp_path / "py311-torch2.13"
    assert said[-1] == (f"py311-torch2.15 -P -m pytest benchmarks --gate-against {there} --workers 12 --scheme int8")


def test_what_cannot_be_built_is_not_measured(run, capfd):
    code, said = run("torch2.13", "torch9.9", code=1)
    assert code == 2
    assert len(said) == 1
    assert "py311-torch2.13 and py311-torch9.9 could not be built" in capfd.readouterr().err


def test_two_environments_are_expected(run, capfd):
    assert run("torch2.13") == (2, [])
    assert "expected two environments, as in `tox -e ab -- torch2.13 torch2.15`" in capfd.readouterr().err
