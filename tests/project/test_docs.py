"""The code in the documents runs as it stands, and prints what they show.

`tox -e docs` checks the links between documents.
"""

import ast
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lstmq import Workload, compare
from lstmq.cli import main

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+")
GENERATED_TEXT, LOSSES, SPEEDS = 1, 4, 5  # outputs of the tutorial
SEPARATOR = "-" * 8


def code_blocks(path, *languages):
    """Return (language, text) of the code blocks of a document."""
    blocks = BLOCK.findall((CHECKOUT / path).read_text(encoding="utf-8"))
    return [(language, text) for language, text in blocks if language in languages]


def run_python(code, folder=CHECKOUT):
    """Return what the code prints."""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=folder)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_tutorial_prints_what_it_shows():
    """Numbers may differ with the machine and torch. With the torch that is named in the tutorial, most are equal."""
    path = "docs/tutorial.md"
    blocks = code_blocks(path, "python", "text")
    assert [language for language, _ in blocks] == ["python", "text"] * 6
    code = "".join(f"{text}\nprint('{SEPARATOR}', flush=True)\n" for language, text in blocks if language == "python")
    printed = run_python(code).split(f"{SEPARATOR}\n")[:-1]
    shown = [text for language, text in blocks if language == "text"]
    same_torch = f"torch {torch.__version__}," in (CHECKOUT / path).read_text(encoding="utf-8")
    for step, (actual, expected) in enumerate(zip(printed, shown, strict=True)):
        if step != GENERATED_TEXT:
            assert NUMBER.sub("#", actual) == NUMBER.sub("#", expected)
        if same_torch and step < LOSSES:
            assert actual == expected
    for pattern, step in ((r"^\w+: (\d\.\d+)", LOSSES), (r"loss (\d\.\d+)", SPEEDS)):
        actual, expected = (
            [float(loss) for loss in re.findall(pattern, outputs[step], flags=re.MULTILINE)]
            for outputs in (printed, shown)
        )
        assert len(actual) == 2
        assert actual == pytest.approx(expected, abs=0.002)
    assert re.findall(r"([\d.]+) MB", printed[SPEEDS]) == ["113.95", "79.74"]


def test_readme_python_prints_two_models_and_text(tmp_path):
    (_, code), (_, gru) = code_blocks("README.md", "python")
    assert run_python(gru, tmp_path) == "Int8GRU (4, 25, 256)\n"
    *models, words = run_python(code).splitlines()
    assert len(models) == 2
    assert all(
        re.fullmatch(r"(float32|int8): \d\.\d\d MB, loss \d\.\d{4}, perplexity [\d.]+", model) for model in models
    )
    assert len(words.split()) == 20


def test_examples_of_own_models_are_compared(tmp_path):
    blocks = [code for _, code in code_blocks("docs/your-own-model.md", "python") if "def workload()" in code]
    assert len(blocks) == 2
    for code, model in zip(blocks, ("BiLSTM", "Recognizer"), strict=True):
        file = tmp_path / f"{model}.py"
        file.write_text(code, encoding="utf-8")
        result = CliRunner().invoke(main, ["compare", "--workload", f"{file}:workload", "--scheme", "int8"])
        assert result.exit_code == 0, result.output
        assert f"{model}(" in result.output
        assert "int8: " in result.output


def test_example_of_int8_modules_runs(tmp_path):
    ((_, code),) = code_blocks("docs/native.md", "python")
    run_python(code, tmp_path)
    assert (tmp_path / "gru.int8.safetensors").is_file()


def test_costs_of_modules_are_those_of_one_module_in_int8():
    (code,) = (code for _, code in code_blocks("docs/your-own-model.md", "python") if "def cost_of_each" in code)
    printed = run_python(
        f"""{code}
import torch
from lstmq import Stream
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Embedding(9, 16), torch.nn.Linear(16, 9)).eval()
ids = torch.arange(90).view(90, 1) % 9
print(cost_of_each_module(model, Stream(inputs=ids, targets=ids)))
"""
    )
    costs = dict(ast.literal_eval(printed))
    assert costs.keys() == {"0", "1"}
    assert all(0 < abs(cost) < 0.01 for cost in costs.values())


def test_models_in_int8_of_the_docs_are_nearly_as_good_as_in_float32(tmp_path, monkeypatch):
    models = runpy.run_path(str(CHECKOUT / "docs" / "int8" / "models.py"))
    monkeypatch.setitem(models["train"].__globals__, "HERE", tmp_path)
    for name in ("gru", "tagger", "decoder"):
        workload = models[name](steps=3)
        subject = replace(workload.speed, stream=workload.speed.stream.slice(0, 100))
        float32, int8 = compare(Workload(speed=subject, loss=subject), ["int8-native"], bptt=25)
        assert abs(int8.loss_difference) < 0.01 * float32.loss
        assert int8.coverage.share == 1
        assert {path.name for path in tmp_path.iterdir()} >= {f"{name}.weights.safetensors"}


def test_onnx_code_runs_an_exported_model_without_torch(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")
    exported = CliRunner().invoke(main, ["export", "--int8", "--tokens", "500", "--out", str(tmp_path / "model.onnx")])
    assert exported.exit_code == 0, exported.output
    ((_, code),) = code_blocks("docs/engines.md", "python")
    text, imports_torch = run_python(f"{code}\nimport sys\nprint('torch' in sys.modules)", tmp_path).splitlines()
    assert text.startswith("the seal is a ")
    assert len(text.split()) == 5
    assert imports_torch == "False"
