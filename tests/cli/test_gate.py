"""Laws of ``lstmq gate``.

1. It judges a saved run as the session did, and exits with the code of the worst verdict.
2. A baseline that cannot be compared is named with the reason, and is an error if it is required.
3. Markdown and plots show all verdicts, and are written completely or not at all.
4. Wrong input prints one line and exits with 2 before anything is judged.
"""

from dataclasses import replace

import pytest

from lstmq.gate.judge import judge_run
from lstmq.gate.recording import FLOAT32_COPY
from lstmq.gate.runs import Run
from lstmq.quantization.schemes import FLOAT32
from runs import MACHINE, SECONDS, SIZES, make_environment, make_run, save_run

DATE = "2026-11-24T12:00:00+00:00"
INT8, COPY = SECONDS["int8"], SECONDS[FLOAT32_COPY]
SLOW = make_run({"int8": 2 * INT8})
NOISY = make_run({FLOAT32_COPY: 2 * COPY})
LARGE = make_run(make_environment(sizes={"int8": SIZES["int8"] + 1}))


@pytest.fixture
def gate(run, tmp_path):
    """Return a function that judges a run, or a run and a baseline, with these options."""

    def gate(*arguments):
        names = iter(("run.json", "before.json"))
        saved = [save_run(tmp_path / next(names), item) if isinstance(item, Run) else item for item in arguments]
        return run("gate", *saved)

    return gate


@pytest.mark.parametrize(
    ("saved", "code", "conclusion"),
    [
        (make_run(), 0, "PASS: every figure is within its limit (exit code 0)"),
        (make_run(there={}), 0, "PASS: "),
        (SLOW, 1, "FAIL: a regression (exit code 1)"),
        (make_run({"int8": 1.1 * INT8}, {}), 1, "FAIL: "),
        (make_run(failures=["test_corpus"]), 1, "FAIL: "),
        (
            make_run({"int8": SECONDS[FLOAT32] / 2}),
            10,
            "INCONCLUSIVE: a limit lies inside an interval; measure more (exit code 10)",
        ),
        (make_run({"int8": 1.02 * INT8}, {}), 10, "INCONCLUSIVE: "),
        (NOISY, 11, "INVALID: the machine is too noisy, or a figure is not a finite number (exit code 11)"),
        (make_run(limits={}), 12, "NOT MEASURED: "),
        (make_run(cases=[]), 12, "NOT MEASURED: a gated figure was not measured (exit code 12)"),
    ],
)
def test_gate_shows_every_verdict_and_exits_with_the_code_of_the_worst(gate, saved, code, conclusion):
    result = gate(saved)
    assert result.exit_code == code, result.output
    lines = result.output.splitlines()
    assert lines[0].endswith(f"run.json: the run of {DATE}")
    assert lines[-1].startswith(conclusion)
    assert any(line.startswith("here: a processor (avx2), torch 2.13.0, engine x86, Python 3.12.1, ") for line in lines)
    assert any(line.startswith("there: a processor") for line in lines) == (saved.recording.there is not None)
    for verdict in judge_run(saved):
        assert any(line.startswith(verdict.outcome) and f"{verdict.case} " in line for line in lines)
        assert not verdict.details or (
            f"{verdict.outcome}  {verdict.case} {verdict.metric}: {verdict.details}" in lines
        )


@pytest.mark.parametrize(
    ("saved", "baseline", "code", "line"),
    [
        (make_run({"int8": 1.4 * INT8}), make_run(), 1, "FAIL  int8 kept speedup: int8 140"),
        (make_run(), SLOW, 0, "PASS  int8 kept speedup: int8 100"),
        (LARGE, make_run(), 1, "FAIL  int8 bytes: +1 bytes"),
    ],
)
def test_gate_judges_by_a_comparable_baseline(gate, saved, baseline, code, line):
    result = gate(saved, baseline)
    assert result.exit_code == code, result.output
    assert f"before.json: the run of {DATE}\n" in result.output
    assert line in result.output


def test_gate_accepts_a_baseline_that_failed_and_says_so(gate):
    result = gate(make_run(), make_run(outcome="FAIL"))
    assert result.exit_code == 0, result.output
    assert f"before.json: the run of {DATE}, although it did not pass: FAIL\n" in result.output


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        (make_run(make_environment(machine=replace(MACHINE, cpu="another"))), "cpu a processor now, another then"),
        (make_run(tokens=50), "slice 100 now, 50 then"),
        (
            make_run(make_environment(machine=replace(MACHINE, threads=2, engine="qnnpack"))),
            "engine x86 now, qnnpack then; threads 1 now, 2 then",
        ),
        (NOISY, "it was too noisy"),
    ],
)
def test_baseline_that_cannot_be_compared_is_ignored_unless_it_is_required(gate, baseline, reason):
    saved = make_run({"int8": 1.45 * INT8})
    result = gate(saved, baseline)
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if line.endswith("judged by limits only")]
    assert "before.json: " in line
    assert reason in line
    assert "kept speedup" not in result.output
    required = gate(saved, baseline, "--require-baseline")
    assert required.exit_code == 2
    assert required.stderr.startswith("lstmq: error: a baseline is required: ")
    assert required.output.count("\n") == 1
    assert reason in required.output


def test_required_baseline_that_can_be_compared_judges_the_run(gate):
    assert gate(make_run({"int8": 1.45 * INT8}), make_run(), "--require-baseline").exit_code == 1


def test_limits_option_replaces_the_limits_and_the_exemptions_of_the_run(gate, tmp_path):
    (tmp_path / "limits.toml").write_text("[int8]\nspeedup = { at_least = 99 }\n")
    saved = make_run(exempt=["speedup"])
    assert gate(saved).exit_code == 0
    result = gate(saved, "--limits", tmp_path / "limits.toml")
    assert result.exit_code == 1
    assert "at least 99" in result.output


def test_markdown_has_a_row_for_each_verdict_and_the_notes(gate, tmp_path):
    saved, path = make_run({"int8": 2 * INT8}, {}), tmp_path / "out.md"
    path.write_text("old")
    assert gate(saved, make_run(), "--markdown", path).exit_code == 1
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "### lstmq: FAIL"
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(judge_run(saved, make_run()))
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert any(row.startswith("| **FAIL** | against | int8 | slower | 2") for row in rows)
    assert any(line.startswith("- here: a processor") for line in lines)
    assert any(line.endswith(f"before.json: the run of {DATE}") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "start", "end"), [("out.svg", b"<?xml", b"</svg>\n"), ("out.png", b"\x89PNG", b"")])
def test_plot_replaces_the_old_file_by_a_complete_one(gate, tmp_path, name, start, end):
    path = tmp_path / name
    path.write_text("old")
    assert gate(SLOW, "--plot", path).exit_code == 1
    content = path.read_bytes()
    assert content.startswith(start)
    assert content.endswith(end)
    assert name != "out.png" or b"IEND" in content[-12:]
    assert {file.name for file in tmp_path.iterdir()} == {name, "run.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--limits", "nowhere.toml"], "nowhere.toml"),
        (["RUN", "--limits", "RUN"], "run.json: "),
        (["RUN", "--limits", "TYPO"], "typo.toml: no such case: int_8; expected int8, "),
        (["RUN", "--plot", "plot.txt"], "expected a .png, .svg or .pdf to draw to, found plot.txt"),
        (["RUN", "--plot", "no/such/plot.svg"], "no such folder to draw to: no/such"),
        (["RUN", "--markdown", "no/such/out.md"], "no such folder to write to: "),
        (["nowhere.json"], "nowhere.json"),
        (["RUN", "nowhere.json"], "nowhere.json"),
        (["CUT"], "cut.json: expected a saved run, found no JSON, or a file that was cut off"),
        (["RUN", "CUT"], "cut.json: expected a saved run, found no JSON, or a file that was cut off"),
        (["RUN", "RUN", "RUN"], "unexpected extra argument"),
        ([], "Missing argument 'RUN'"),
        (["RUN", "--require-baseline"], "--require-baseline needs a BASELINE"),
    ],
)
def test_wrong_input_prints_one_line_and_exits_with_2(run, tmp_path, arguments, message):
    paths = {
        "RUN": save_run(tmp_path / "run.json", make_run()),
        "CUT": tmp_path / "cut.json",
        "TYPO": tmp_path / "typo.toml",
    }
    paths["CUT"].write_bytes(paths["RUN"].read_bytes()[:1_000])
    paths["TYPO"].write_text("[int_8]\nspeedup = { at_least = 1 }\n")
    result = run("gate", *(paths.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("lstmq: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert result.stdout == ""
