"""Laws of tables: every verdict is shown whole and as it is, whatever characters it contains."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.escaping import escape_markdown, markdown_item
from lstmq.gate.judge import judge_run
from lstmq.gate.verdicts import Outcome, not_measured, worst
from lstmq.report.advice import what_to_do
from lstmq.report.tables import conclusion, describe_environments, verdict_lines, verdict_markdown
from runs import MACHINE, PEAK, SECONDS, make_environment, make_run

printable = st.text(st.characters(categories=("L", "N", "P", "S"), codec="utf-8"), min_size=1, max_size=20)
markup = st.lists(st.sampled_from([*"[]/:\\ab", ":x:", "[b]", "[/]", "[/b]"]), min_size=1, max_size=8).map("".join)

# Verdicts as text.


@given(printable | markup, printable | markup)
def test_verdict_lines_show_text_as_it_is(case, limit):
    """The reason why torch lacks a scheme is text of another program, with brackets and colons, and is no markup."""
    verdict = replace(not_measured(case, "all", limit), details=limit)
    row, details = [line for line in verdict_lines([verdict]) if line.startswith("NOT MEASURED")]
    assert row.split() == ["NOT", "MEASURED", "limit", case, "all", limit]
    assert details == f"NOT MEASURED  {case} all: {limit}"


@pytest.mark.parametrize("width", [50, 150, 190, 500])
def test_verdict_lines_cut_nothing_off_beside_a_long_reason(width):
    reason = "because " * (width // 8)
    lines = verdict_lines([not_measured("int8", "all", reason), *judge_run(make_run())])
    assert lines[1].startswith("NOT MEASURED limit    int8    all")
    assert lines[1].endswith(reason.strip())
    assert any(line.startswith("PASS         session  float32 over its copy") for line in lines)


def test_verdict_lines_are_a_header_a_row_for_each_verdict_and_then_the_details():
    verdicts = judge_run(make_run({"int8": 2 * SECONDS["int8"]}, {}), make_run())
    header, *lines = verdict_lines(verdicts)
    assert header.split() == ["verdict", "question", "of", "metric", "figure", "limit"]
    for verdict, line in zip(verdicts, lines, strict=False):
        cells = (verdict.outcome, verdict.question, verdict.case, verdict.metric, verdict.figure_text, verdict.limit)
        assert line.split() == " ".join(cells).split()
    detailed = [verdict for verdict in verdicts if verdict.details]
    assert detailed
    details = [f"{verdict.outcome}  {verdict.case} {verdict.metric}: {verdict.details}" for verdict in detailed]
    assert lines[len(verdicts) :] == ["", *details]


# Verdicts as Markdown.


@given(printable, st.sampled_from(Outcome))
def test_verdict_markdown_has_the_same_number_of_cells_whatever_is_in_them(text, outcome):
    verdict = replace(not_measured(text, "all", f"a|b {text}"), outcome=outcome, details=text)
    title, _, first, _, advice, _, header, rule, row, _, note = verdict_markdown([verdict], [text])
    assert first == f"**{escape_markdown(str(verdict))}**"
    assert advice == f"What to do: {what_to_do(verdict)}"
    assert title == f"### lstmq: {worst([verdict])}"
    assert header.count("|") == rule.count("|") == 8
    is_bold = outcome not in (Outcome.PASS, Outcome.UNJUDGED)
    shown, limit = escape_markdown(text), escape_markdown(f"a|b {text}")
    cells = [f"**{outcome}**" if is_bold else outcome, "limit", shown, "all", "", limit, shown]
    assert row == f"| {' | '.join(cells)} |"
    assert note == markdown_item(text)


def test_verdict_markdown_names_the_worst_verdict_and_what_to_do_about_it_first():
    verdicts = judge_run(make_run({"int8": 2 * SECONDS["int8"]}, {}), make_run())
    assert verdicts[0].outcome is Outcome.PASS  # the session comes first on the terminal
    lines = verdict_markdown(verdicts, [])
    failed = [verdict for verdict in verdicts if verdict.outcome is Outcome.FAIL]
    assert lines[2] == f"**{escape_markdown(str(failed[0]))}**"
    assert lines[4] == f"What to do: {what_to_do(failed[0])}"
    outcomes = [line.split(" | ")[0].strip("|* ") for line in lines[8:-1]]
    assert sorted(outcomes, key=[*Outcome].index) == outcomes
    assert len(outcomes) == len(verdicts)


# The conclusion.


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.UNJUDGED])
def test_conclusion_is_the_worst_outcome_and_its_exit_code(outcome):
    line = conclusion([replace(not_measured("int8", "all", ""), outcome=one) for one in (Outcome.PASS, outcome)])
    assert line.startswith(f"{outcome}: ")
    assert line.endswith(f" (exit code {outcome.exit_code})")


# Environments.


def test_describe_environments_has_a_line_for_each_environment_and_one_for_the_plan():
    there = make_environment("there", machine=replace(MACHINE, torch="2.14.0"))
    first, second, plan = describe_environments(make_run(there=there).recording)
    assert first == "here: a processor (avx2), torch 2.13.0, engine x86, Python 3.12.1, lstmq 0.2.0 in /here/lstmq"
    assert second == "there: a processor (avx2), torch 2.14.0, engine x86, Python 3.12.1, lstmq 0.2.0 in /there/lstmq"
    assert plan == "12 fresh processes of each environment, 1 blocks of 4 slices in each, CPU time of the process"


def test_describe_environments_shows_the_peak_where_it_is_known():
    lines = describe_environments(make_run(make_environment(peak=PEAK), {}).recording)
    assert lines[1] == f"here: peak of one thread: {PEAK}"
    assert sum("peak" in line for line in lines) == 1


def test_describe_environments_says_which_looks_were_taken_and_why():
    recording = make_run(looks=(4, 8, 12)).recording
    undecided = [["int8 slower", "int8 speedup"], []]
    line = describe_environments(replace(recording, undecided=undecided))[-1]
    assert line == (
        "looks planned after 4, 8, 12 blocks; taken after 4 blocks: int8 slower, int8 speedup undecided; "
        "after 8 blocks: all settled"
    )


def test_describe_environments_says_that_several_threads_are_timed_by_wall_time():
    recording = make_run().recording
    recording = replace(recording, plan=replace(recording.plan, threads=2))
    here = replace(recording.here, pinned=False)  # workers are not pinned then
    assert ", wall time on 2 threads" in describe_environments(replace(recording, here=here))[-1]


def test_describe_environments_says_if_both_are_the_same():
    there = replace(make_environment("there"), location="/here/lstmq")
    assert "here and there are the same environment" in describe_environments(make_run(there=there).recording)[2]


@pytest.mark.parametrize("name", ["here", "there"])
def test_describe_environments_says_if_a_process_is_not_pinned(name):
    environments = {"here": make_environment("here"), "there": make_environment("there")}
    environments[name] = replace(environments[name], pinned=False)
    lines = describe_environments(make_run(**environments).recording)
    assert "does not keep a process on one processor" in lines[-1]


def test_describe_environments_names_the_kernels_only_where_they_are_used():
    here = make_environment(machine=replace(MACHINE, kernels="portable"))
    assert "kernels" not in describe_environments(make_run(here).recording)[0]
    here = replace(here, models=[*here.models, "int8-native"])
    assert ", engine x86, kernels portable, Python" in describe_environments(make_run(here).recording)[0]
