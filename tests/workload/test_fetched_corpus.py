"""Laws of the name ``wikitext-2``: it finds what was fetched, and otherwise says how to fetch it."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lstmq.cli import main
from lstmq.workload.assets import file_name
from lstmq.workload.download import fetch
from lstmq.workload.loading import find_corpus, load_text_subject
from workload.published import MODEL, PTH, TEXT

NAME = Path("wikitext-2")
CHECKPOINT = Path("data", file_name(MODEL))


@pytest.fixture
def fetch_here(tmp_path, monkeypatch, mirror):
    """Change to an empty folder, and return a function that fetches assets there."""
    monkeypatch.chdir(tmp_path)

    def fetch_all(*assets):
        for asset in assets:
            fetch(asset, source=mirror.url)

    return fetch_all


def run(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert not isinstance(result.exception, Exception), result.exception
    return result


def test_name_finds_the_fetched_corpus_and_checkpoint(fetch_here):
    fetch_here(TEXT, MODEL)
    subject = load_text_subject(NAME)
    assert subject.model.config.ntoken == len(subject.dictionary) == 9
    assert subject.origin == f"{CHECKPOINT}, 9/4/3/1, on 400 tokens of {Path('data', NAME)}'s test split, 0.0% <unk>"
    assert load_text_subject(Path("data/wikitext-2"), CHECKPOINT, NAME).origin == subject.origin


def test_folder_of_the_name_in_the_current_folder_comes_first(fetch_here):
    fetch_here(TEXT, MODEL)
    Path("data/wikitext-2").rename(NAME)
    assert find_corpus(NAME) == NAME
    assert "tokens of wikitext-2's test split" in load_text_subject(NAME).origin


def test_given_checkpoint_is_used_with_the_fetched_corpus(fetch_here):
    fetch_here(TEXT)
    Path("mine.pth").write_bytes(PTH)
    assert load_text_subject(NAME, Path("mine.pth")).origin.startswith("mine.pth, 9/4/3/1, on 400 tokens of data")


@pytest.mark.parametrize("fetched", [[], [TEXT], [MODEL]])
@pytest.mark.parametrize("command", ["compare", "evaluate", "generate"])
def test_commands_say_how_to_fetch_what_is_missing(fetch_here, fetched, command):
    fetch_here(*fetched)
    missing = CHECKPOINT if TEXT in fetched else Path("data", "wikitext-2")
    result = run(command, "--corpus", "wikitext-2")
    assert result.exit_code == 2
    assert result.stderr == (
        f"lstmq: error: no such file or folder: {missing}. To use wikitext-2, run `lstmq fetch` first\n"
    )


@pytest.mark.slow
def test_compare_and_benchmarks_measure_the_fetched_corpus(fetch_here):
    fetch_here(TEXT, MODEL)
    line = f"{CHECKPOINT}, 9/4/3/1, on 350 tokens of {Path('data', NAME)}'s test split, 0.0% <unk>"
    compared = run("compare", "--corpus", "wikitext-2", "--tokens", "350")
    assert compared.exit_code == 0
    assert f"measured on: {line}" in compared.stdout
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", root / "pyproject.toml"]
    options = ["--gate-corpus", "wikitext-2", "--gate-tokens", "350"]
    result = subprocess.run(
        [*command, *options, root / "benchmarks" / "test_corpus.py"], capture_output=True, text=True
    )
    assert f"speed and size: {line}" in result.stdout  # whatever the verdict on such a short text
