"""The documents run as they stand, and print what they say that they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lstmq.cli import main

CHECKOUT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+")
WRITING, LOSSES = 1, 4  # blocks of the tutorial
LINE = "-" * 8


def blocks(path, *languages):
    """Return (language, text) of a document's code blocks."""
    found = BLOCK.findall((CHECKOUT / path).read_text(encoding="utf-8"))
    return [(language, text) for language, text in found if language in languages]


def printed_by(code, folder=CHECKOUT):
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=folder)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_tutorial_prints_what_it_shows():
    """Figures are the machine's and torch's; the rest is to the letter, and with the same torch nearly all is."""
    path = "docs/tutorial.md"
    told = blocks(path, "python", "text")
    assert [language for language, _ in told] == ["python", "text"] * 6
    code = "".join(f"{text}\nprint('{LINE}', flush=True)\n" for language, text in told if language == "python")
    printed = printed_by(code).split(f"{LINE}\n")[:-1]
    shown = [text for language, text in told if language == "text"]
    same_torch = f"torch {torch.__version__}," in (CHECKOUT / path).read_text(encoding="utf-8")
    for place, (now, then) in enumerate(zip(printed, shown, strict=True)):
        if place != WRITING:  # words are drawn
            assert NUMBER.sub("#", " ".join(now.split())) == NUMBER.sub("#", " ".join(then.split()))
        if same_torch and place < LOSSES:
            assert now == then
    losses = [[float(number) for number in re.findall(r"\d\.\d+", text)] for text in (printed[LOSSES], shown[LOSSES])]
    assert losses[0] == pytest.approx(losses[1], abs=0.002)
    sizes = [re.findall(r"^\w+ +([\d.]+) ", text, flags=re.MULTILINE) for text in (printed[-1], shown[-1])]
    assert sizes[0] == sizes[1] == ["113.95", "79.74"]


def test_the_readmes_python_runs():
    ((_, code),) = blocks("README.md", "python")
    *models, words = printed_by(code).splitlines()
    assert all(re.fullmatch(r"\d\.\d\d MB, loss \d\.\d{4}, perplexity [\d.]+", line) for line in models)
    assert len(models) == 2
    assert len(words.split()) == 20


def test_an_exported_model_runs_without_torch(tmp_path):
    pytest.importorskip("onnxruntime", reason="of the extra onnxruntime")
    exported = CliRunner().invoke(main, ["export", "--int8", "--tokens", "500", "--out", str(tmp_path / "model.onnx")])
    assert exported.exit_code == 0, exported.output
    ((_, code),) = blocks("docs/engines.md", "python")
    text, torch_came_along = printed_by(f"{code}\nimport sys\nprint('torch' in sys.modules)", tmp_path).splitlines()
    assert text.startswith("the seal is a ")
    assert len(text.split()) == 5
    assert torch_came_along == "False"


def test_links_between_documents_lead_somewhere():
    for path in [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("*/README.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
