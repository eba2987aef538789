"""The law of ``lstmq init``: with the limits that it wrote, the gate fails broken schemes, and passes the others."""

import tomllib

import pytest

from benchmarks.suite import CHECKOUT
from benchmarks.test_wrong_quantization import BROKEN
from lstmq.gating.initial import measure_once
from lstmq.gating.new_limits import limits_file
from lstmq.workload import sample_folder

WORKLOAD = """
from dataclasses import replace
from pathlib import Path
from lstmq import Workload
from lstmq.workload import load_text_subject

def workload():
    subject = load_text_subject(Path({corpus!r}), Path({checkpoint!r}))
    speed, loss = (replace(subject, stream=subject.stream.slice(0, length)) for length in (1_000, 2_000))
    return Workload(speed=speed, loss=loss)
"""


@pytest.mark.slow
def test_gate_fails_every_broken_scheme_with_the_limits_that_init_wrote(run_pytest, wide_checkpoint, tmp_path):
    text = WORKLOAD.format(corpus=str(sample_folder()), checkpoint=str(wide_checkpoint))
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    run, _ = measure_once(f"{tmp_path / 'mine.py'}:workload", ["int8", "int8-native", "ort-int8"])
    limits = limits_file(run, "mine.py:workload", "2026-11-28", "lstmq init")
    head, *tables = limits.split("\n[")
    for name in BROKEN:
        family = {"ort": "ort-int8", "native": "int8-native"}.get(name.partition("_")[0], "int8")
        tables += [
            name + table.removeprefix(family) for table in tables if table.startswith((f"{family}]", f"{family}."))
        ]
    path = tmp_path / "limits.toml"
    path.write_text("\n[".join([head, *tables]), encoding="utf-8")
    assert tomllib.loads(path.read_text()).keys() >= BROKEN.keys()
    result = run_pytest(
        CHECKOUT / "benchmarks" / "test_evaluation.py",
        "--gate-limits",
        path,
        "--gate-workload=mine.py:workload",
        "--gate-looks=24",
        "--gate-blocks=24",
        "--gate-slices=1",
        sabotage={"broken_schemes": True},
    )
    assert result.exit_code == 1, result
    for name in BROKEN:
        assert "FAIL" in result.outcomes(name), (name, result)
    for scheme in ("int8", "int8-native", "ort-int8"):
        assert "FAIL" not in result.outcomes(scheme), (scheme, result)
