"""Laws of ``lstmq compare``.

1. Without options it measures the bundled default: sizes and speeds of the tutorial's shape, losses of the sample.
2. It measures the schemes that the user names, each once.
3. The table fits into 80 columns, and no terminal cuts off a figure.
4. The JSON has the figures of the table, and says what was measured and how.
"""

import json
import re

import pytest
import torch

# Megabytes of the tutorial's shape, for float32 and the schemes that run by default.
DEFAULT_SIZES = {
    "float32": "113.95",
    "int8": "79.74",
    "int8-embedding": "28.89",
    "int8-embedding4": "20.37",
    "bf16": "56.98",
    "ort-int8": "28.62",
    "int8-native": "28.91",
}
TABLE_LINE = re.compile(r" +MB |(float32|int8|bf16|ort)[-\w]* ")


def table_lines(output):
    return [line for line in output.splitlines() if TABLE_LINE.match(line)]


@pytest.mark.slow  # quantizes the tutorial's shape by every scheme
def test_compare_without_options_measures_the_tutorials_shape_and_the_sample(run, tmp_path, monkeypatch):
    monkeypatch.setattr("lstmq.quantization.bfloat16.missing_instructions", str)
    result = run("compare", "--tokens", 50, "--json", tmp_path / "run.json")
    assert result.exit_code == 0, result.output
    assert "Embedding(33278, 512)" in result.output
    _, *lines = table_lines(result.output)
    sizes = dict(line.split()[:2] for line in lines)
    assert sizes == DEFAULT_SIZES
    assert "seeded weights, on 50 tokens of the sample" in result.output
    assert re.search(r"loss: lstm.safetensors, [\d/]+, on [\d,]+ tokens of sample's test split", result.output)
    document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in document["rows"]] == list(sizes)
    speedups = [row["speedup"]["median"] for row in document["rows"][1:]]
    assert speedups == sorted(speedups)
    assert all(abs(row["loss_difference"]) < 0.01 for row in document["rows"])
    assert "seeded weights" in document["workload"]["speed_and_size"]
    assert "lstm.safetensors" in document["workload"]["loss"]


def test_compare_measures_a_scheme_that_is_named_twice_once(run, model_files):
    result = run("compare", *model_files, "--scheme", "bf16", "--scheme", "bf16")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in table_lines(result.output)] == ["MB", "float32", "bf16"]


def test_compare_table_of_the_default_schemes_fits_into_80_columns(run, model_files, monkeypatch):
    monkeypatch.setattr("lstmq.quantization.bfloat16.missing_instructions", str)
    result = run("compare", *model_files)
    lines = table_lines(result.output)
    assert {line.split()[0] for line in lines} == {"MB", *DEFAULT_SIZES}
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in result.output


def test_compare_cuts_off_no_figure_on_a_narrow_terminal(run, model_files, monkeypatch):
    monkeypatch.setattr("lstmq.quantization.bfloat16.missing_instructions", str)
    monkeypatch.setenv("COLUMNS", "40")
    result = run("compare", *model_files)
    assert len(table_lines(result.output)) == 8
    assert "…" not in result.output


def test_compare_json_describes_the_machine_and_the_workload(run, model_files, tmp_path):
    run("compare", *model_files, "--scheme", "int8", "--json", tmp_path / "run.json")
    document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert document["machine"].keys() == {"cpu", "isa", "torch", "engine", "kernels", "threads", "python", "system"}
    assert document["workload"]["speed_and_size"] == document["workload"]["loss"]
    assert document["workload"]["loss"].startswith("model.safetensors, 30/16/8/2, on ")


def test_compare_uses_the_threads_and_the_engine_that_are_given(run, model_files, tmp_path):
    path = tmp_path / "run.json"
    command = ["compare", *model_files, "--scheme", "int8", "--json", path]
    try:
        run(*command, "--threads", 2, "--engine", "onednn")
        machine = json.loads(path.read_text(encoding="utf-8"))["machine"]
        assert (machine["threads"], machine["engine"]) == (2, "onednn")
        assert torch.get_num_threads() == 2
        run(*command)  # one thread is the default, whatever torch used before
        assert json.loads(path.read_text(encoding="utf-8"))["machine"]["threads"] == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
