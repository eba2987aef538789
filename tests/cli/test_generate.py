"""Laws of ``lstmq generate``.

1. It prints the words that ``generate`` returns for the scheme, the temperature and the seed, 20 on a line.
2. The progress bar does not overwrite text on a terminal, and a file holds UTF-8 text only.
"""

import contextlib
import os
import subprocess
import sys

import pytest
import torch

from lstmq import Corpus, generate, quantize
from lstmq.workload.corpora import sample_folder
from lstmq.workload.loading import load_text_subject


def test_generate_prints_20_words_per_line_and_repeats_them_with_the_same_seed(run):
    first, repeated, other = (run("generate", "--words", 45, "--seed", seed).output for seed in (1, 1, 2))
    assert first == repeated != other
    assert [len(line.split(" ")) for line in first.splitlines()] == [20, 20, 5]
    assert set(first.split()) <= Corpus(sample_folder()).dictionary.word2idx.keys()
    assert first.endswith("\n")


@pytest.mark.parametrize(
    ("temperature", "scheme"), [(0.0, "float32"), (1.0, "int8-embedding"), (0.7, "int8"), (1.3, "bf16")]
)
def test_generate_prints_the_words_of_the_scheme_at_the_temperature(run, temperature, scheme):
    subject = load_text_subject()
    model = subject.model if scheme == "float32" else quantize(subject.model, scheme)
    expected = generate(model, subject.dictionary, 30, temperature, torch.Generator().manual_seed(7))
    result = run("generate", "--words", 30, "--seed", 7, "--temperature", temperature, "--scheme", scheme)
    assert result.output.split() == list(expected)


def test_generate_writes_utf8_to_a_file_and_prints_nothing(run, model_files, corpus_folder, tmp_path):
    for path in corpus_folder.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("word", "wörd"), encoding="utf-8")
    out = tmp_path / "text.txt"
    assert run("generate", *model_files, "--words", 40, "--seed", 0, "--out", out).output == ""
    assert "wörd" in out.read_text(encoding="utf-8")


@pytest.mark.slow
def test_generate_draws_no_progress_bar_over_text_on_a_terminal(run):
    terminal, child_side = os.openpty()
    command = [sys.executable, "-m", "lstmq", "generate", "--words", "60", "--seed", "1"]
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdout=child_side, stderr=child_side, env=environment)
    os.close(child_side)
    shown = b""
    with contextlib.suppress(OSError):  # reading fails when the process has closed its side
        while chunk := os.read(terminal, 4096):
            shown += chunk
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    assert shown.decode().replace("\r\n", "\n") == run("generate", "--words", 60, "--seed", 1).output
