"""Laws of ``lstmq gate``: a saved run is judged as it was, with the same exit codes; wrong input is one line and 2."""

import json

import pytest
from click.testing import CliRunner

from lstmq.cli import main
from lstmq.gate import judge
from lstmq.gate.run_file import KEY, as_json
from lstmq.gate.worker import FLOAT32_COPY
from lstmq.quantization.schemes import FLOAT32
from strategies import SECONDS, SIZES, a_run

SLOW = {"here": {"int8": 2 * SECONDS["int8"]}}


@pytest.fixture
def saved(tmp_path):
    """Give ``saved("run", ...)``: the path of a file that holds such a run."""

    def saved(name, **change):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"benchmarks": [], KEY: as_json(a_run(**change), [])}))
        return path

    return saved


def judge(*arguments):
    return CliRunner().invoke(main, ["gate", *map(str, arguments)])


@pytest.mark.parametrize(
    ("change", "code", "conclusion"),
    [
        ({}, 0, "PASS: every figure clears its limit (exit code 0)"),
        ({"there": {}}, 0, "PASS: "),
        (SLOW, 1, "FAIL: a regression (exit code 1)"),
        ({"here": {"int8": SECONDS[FLOAT32] / 2}}, 10, "INCONCLUSIVE: no regression, and no pass"),
        ({"here": {"int8": 1.025 * SECONDS["int8"]}, "there": {}}, 10, "INCONCLUSIVE: "),
        ({"here": {"int8": 1.1 * SECONDS["int8"]}, "there": {}}, 1, "FAIL: "),
        (
            {"here": {FLOAT32_COPY: 2 * SECONDS[FLOAT32_COPY]}},
            11,
            "INVALID: this machine is too noisy to judge now (exit code 11)",
        ),
        ({"failures": ["test_corpus"]}, 1, "FAIL: "),
        ({"floors": {}}, 12, "NOT MEASURED: "),
        ({"cases": []}, 12, "NOT MEASURED: something that is gated was not measured (exit code 12)"),
    ],
)
def test_the_exit_code_is_that_of_the_worst_verdict(saved, change, code, conclusion):
    result = judge(saved("run", **change))
    assert result.exit_code == code, result.output
    assert result.output.splitlines()[-1].startswith(conclusion)
    assert result.output.splitlines()[0].endswith("run.json: the run of 2026-11-24T12:00:00+00:00")
    assert "here: a processor (avx2), torch 2.13.0, engine x86, Python 3.12.1, lstmq 0.1.0 in" in result.output
    assert ("there: a processor" in result.output) == ("there" in change)
    verdicts = judge.judge(a_run(**change))
    told = result.output.splitlines()
    for each in verdicts:
        assert any(line.startswith(each.outcome) and f"{each.case} " in line for line in told)
        assert not each.details or f"{each.outcome}  {each.case} {each.metric}: {each.details}" in told


def test_a_baseline_that_can_be_compared_with_is_judged_by(saved):
    result = judge(saved("run", here={"int8": 1.4 * SECONDS["int8"]}), saved("before"))
    assert result.exit_code == 1, result.output
    assert "before.json: the run of" in result.output
    assert "FAIL  int8 kept speedup: int8 140" in result.output
    assert judge(saved("run"), saved("before", **SLOW)).exit_code == 0
    accepted = judge(saved("run"), saved("before", outcome="FAIL"))
    assert accepted.exit_code == 0
    assert "before.json: the run of 2026-11-24T12:00:00+00:00, though it did not pass itself: FAIL" in accepted.output
    bigger = judge(saved("run", told={"sizes": {"int8": SIZES["int8"] + 1}}), saved("before"))
    assert bigger.exit_code == 1
    assert "FAIL  int8 bytes: +1 bytes" in bigger.output


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ({"told": {"machine": {"cpu": "another"}}}, "cpu a processor now, another then"),
        ({"tokens": 50}, "slice 100 now, 50 then"),
        ({"told": {"machine": {"threads": 2, "engine": "qnnpack"}}}, "engine x86 now, qnnpack then; threads 1 now, 2"),
        ({"here": {FLOAT32_COPY: 2 * SECONDS[FLOAT32_COPY]}}, "noisy"),
    ],
)
def test_a_baseline_that_cannot_be_compared_with_is_said_to_be_and_why(saved, before, why):
    """Judged by floors alone, or refused if it was required."""
    run, baseline = saved("run", here={"int8": 1.45 * SECONDS["int8"]}), saved("before", **before)
    result = judge(run, baseline)
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if "by floors alone" in line]
    assert why in line
    assert "before.json" in line
    assert "kept speedup" not in result.output
    required = judge(run, baseline, "--gate-baseline", "require")
    assert required.exit_code == 2
    assert required.output.count("\n") == 1
    assert why in required.output
    assert judge(run, saved("before"), "--gate-baseline", "require").exit_code == 1


def test_other_floors_replace_those_of_the_run_and_what_they_were_not_for(saved, tmp_path):
    (tmp_path / "limits.toml").write_text("[int8]\nspeedup = { at_least = 99 }\n")
    run = saved("run", exempt=["speedup"])
    assert judge(run).exit_code == 0
    result = judge(run, "--floors", tmp_path / "limits.toml")
    assert result.exit_code == 1
    assert "at least 99" in result.output


def test_markdown_and_drawings_are_written_whole(saved, tmp_path):
    run = saved("run", there={}, **SLOW)
    for old in ("out.md", "out.svg", "out.png"):
        (tmp_path / old).write_text("old")
    result = judge(run, saved("before"), "--markdown", tmp_path / "out.md", "--gate-plot", tmp_path / "out.svg")
    assert result.exit_code == 1, result.output
    lines = (tmp_path / "out.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "### lstmq: FAIL"
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(judge.judge(a_run(there={}, **SLOW), a_run()))
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert any(row.startswith("| **FAIL** | against | int8 | slower | 2") for row in rows)
    assert any(line.startswith("- here: a processor") for line in lines)
    drawn = (tmp_path / "out.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    assert drawn.rstrip().endswith("</svg>")
    assert judge(run, "--gate-plot", tmp_path / "out.png").exit_code == 1
    drawn = (tmp_path / "out.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert b"IEND" in drawn[-12:]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--floors", "nowhere.toml"], "nowhere.toml"),
        (["RUN", "--floors", "RUN"], "run.json: "),
        (["RUN", "RUN", "--gate-baseline", "perhaps"], "'perhaps' is not one of"),
        (["RUN", "--floors", "TYPO"], "typo.toml: no such case: int_8; there are int8, "),
        (["RUN", "--gate-plot", "plot.txt"], "expected a .png, .svg or .pdf to draw to, found plot.txt"),
        (["RUN", "--gate-plot", "no/such/plot.svg"], "no such folder to draw to: no/such"),
        (["RUN", "--markdown", "no/such/out.md"], "no such folder to write to: "),
        (["nowhere.json"], "nowhere.json"),
        (["RUN", "nowhere.json"], "nowhere.json"),
        (["CUT"], "cut.json: expected a saved run, found no JSON, or a cut one"),
        (["RUN", "CUT"], "cut.json: expected a saved run, found no JSON, or a cut one"),
        (["RUN", "RUN", "RUN"], "unexpected extra argument"),
        ([], "Missing argument 'RUN'"),
        (["RUN", "--gate-baseline", "require"], "BASELINE"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(saved, tmp_path, arguments, message):
    run = saved("run")
    (tmp_path / "cut.json").write_bytes(run.read_bytes()[:1_000])
    (tmp_path / "typo.toml").write_text("[int_8]\nspeedup = { at_least = 1 }\n")
    paths = {"RUN": run, "CUT": tmp_path / "cut.json", "TYPO": tmp_path / "typo.toml"}
    result = judge(*(paths.get(each, each) for each in arguments))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("lstmq: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert result.stdout == ""  # it is found out before anything is judged
