"""Laws of what is told of verdicts: all of it, as it is, whatever is in it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate import judge
from lstmq.gate.processes import HERE
from lstmq.gate.statistics import ConfidenceInterval, exact
from lstmq.gate.verdicts import Outcome, not_measured, worst
from lstmq.report import tables
from strategies import SECONDS, a_run

printable = st.text(st.characters(categories=("L", "N", "P", "S"), codec="utf-8"), min_size=1, max_size=20)
marked = st.lists(st.sampled_from([*"[]/:\\ab", ":x:", "[b]", "[/]", "[/b]"]), min_size=1, max_size=8).map("".join)


@given(printable | marked, printable | marked)
def test_a_line_tells_words_as_they_are(case, limit):
    """Why torch cannot do a scheme is in another version's words: brackets, colons and all."""
    verdict = replace(not_measured(case, "all", limit), details=limit)
    line, detail = [line for line in tables.verdict_lines([verdict]) if line.startswith("NOT MEASURED")]
    assert line.split() == ["NOT", "MEASURED", "floor", case, "all", limit]
    assert detail == f"NOT MEASURED  {case} all: {limit}"


@pytest.mark.parametrize("width", [50, 150, 190, 500])
def test_a_long_reason_takes_nothing_from_the_verdict(width):
    reason = "because " * (width // 8)
    lines = tables.verdict_lines([not_measured("int8", "all", reason), *judge.judge(a_run())])
    assert lines[1].startswith("NOT MEASURED floor    int8    all")
    assert any(line.startswith("PASS         session  float32 over its own copy") for line in lines)
    assert "because because" in lines[1]


def test_every_verdict_is_a_line_and_what_it_is_about_a_line_below():
    verdicts = judge.judge(a_run({"int8": 2 * SECONDS["int8"]}, {}), a_run())
    header, *lines = tables.verdict_lines(verdicts)
    assert header.split() == ["verdict", "question", "of", "metric", "figure", "limit"]
    for verdict, line in zip(verdicts, lines, strict=False):
        words = (verdict.outcome, verdict.question, verdict.case, verdict.metric, verdict.shown, verdict.limit)
        assert line.split() == " ".join(words).split()
    below = lines[len(verdicts) :]
    assert below == [
        "",
        *(f"{each.outcome}  {each.case} {each.metric}: {each.details}" for each in verdicts if each.details),
    ]


@given(printable.filter(lambda text: "\\" not in text), st.sampled_from(Outcome))
def test_a_row_of_markdown_has_as_many_cells_whatever_is_in_them(text, outcome):
    verdict = replace(not_measured(text, "all", f"a|b {text}"), outcome=outcome, details=text)
    title, _, header, rule, row, _, note = tables.verdict_markdown([verdict], [text])
    assert title == f"### lstmq: {worst([verdict])}"
    assert header.count("|") == rule.count("|") == row.replace("\\|", "").count("|") == 8
    cells = [cell.strip().replace("\0", "|") for cell in row.replace("\\|", "\0").split("|")[1:-1]]
    bold = outcome not in (Outcome.PASS, Outcome.UNJUDGED)
    assert cells == [f"**{outcome}**" if bold else outcome, "floor", text, "all", "", f"a|b {text}", text]
    assert note == f"- {text}"


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.UNJUDGED])
def test_the_conclusion_is_the_worst_outcome_with_its_exit_code(outcome):
    verdicts = [replace(not_measured("int8", "all", ""), outcome=each) for each in (Outcome.PASS, outcome)]
    told = tables.conclusion(verdicts)
    assert told.startswith(f"{outcome}: ")
    assert told.endswith(f" (exit code {outcome.exit_code})")


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (exact(2.0), "2"),
        (exact(79_738_057), "79,738,057"),
        (exact(0.000123456), "0.0001235"),
        (exact(float("nan")), ""),
        (ConfidenceInterval(median=3.0, lower=2.5, upper=3.25), "3 [2.5, 3.25]"),
    ],
)
def test_a_figure_is_shown_with_its_interval_if_it_is_noisy(figure, shown):
    assert replace(not_measured("int8", "all", ""), figure=figure).shown == shown


def test_an_environment_is_a_line_and_how_it_was_measured_another():
    here, there, how = tables.describe_environments(
        a_run(there={}, told_there={"machine": {"torch": "2.14.0"}}).recording
    )
    assert here == "here: a processor (avx2), torch 2.13.0, engine x86, Python 3.12.1, lstmq 0.1.0 in /here/lstmq"
    assert there == "there: a processor (avx2), torch 2.14.0, engine x86, Python 3.12.1, lstmq 0.1.0 in /there/lstmq"
    assert how.startswith("12 fresh processes of each, 4 slices in each process, CPU time of one thread; ")
    run = a_run(there={})
    for told in run.recording.environments.values():
        told["place"] = "/one/lstmq"
    assert "here and there are one and the same" in tables.describe_environments(run.recording)[2]
    run.recording.environments[HERE]["pinned"] = False
    assert "not kept on one processor" in tables.describe_environments(run.recording)[-1]
    more = a_run({name: [[1.0, None]] * 8 for name in SECONDS} | {"int8": [[1.0, 1.0]] * 8})
    assert (
        "8 fresh processes of each, 1 slices and 1 more, quantized, in each"
        in tables.describe_environments(more.recording)[1]
    )


def test_the_kernels_that_computed_are_told_where_they_did():
    run = a_run(told={"machine": {"native": "avx2"}})
    assert "kernels" not in tables.describe_environments(run.recording)[0]
    run.recording.environments["here"]["models"].append("int8-native")
    assert ", engine x86, kernels avx2, Python" in tables.describe_environments(run.recording)[0]
