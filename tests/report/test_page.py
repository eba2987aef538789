"""Laws of the report: every form shows the same tables and changes, changed figures are marked, and text is escaped."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lstmq.quantization.schemes import FLOAT32
from lstmq.report.advice import upgrade_sentence
from lstmq.report.page import (
    HEADERS,
    change_sentences,
    group_by_processor,
    heading,
    report_html,
    report_markdown,
    report_text,
    table_cells,
)
from lstmq.report.plots import PLOTS
from lstmq.report.summaries import group_summaries, summarize_run
from runs import FIDELITY, MACHINE, PEAK, SECONDS, SIZES, make_environment, make_fidelity, make_run

HIGHER_LOSS = {"int8": make_fidelity(FIDELITY["int8"].loss + 8e-5, 0.001, 0.9)}
SENTENCE = "int8 loss moved by +8e-05 with torch 2.14.0"


@pytest.fixture
def changed(summarize):
    """One group: int8 with torch 2.13.0, and with a higher loss with torch 2.14.0."""
    return group_summaries([summarize(torch="2.14.0", fidelity=HIGHER_LOSS), summarize()])


def text_rows(lines):
    """Return the lines of text that are rows of tables."""
    return [line for line in lines if line.startswith("2.")]


def test_report_says_which_peak_each_run_had(summarize):
    other = replace(PEAK, products_per_second=8e10)
    group = [[summarize(peak=PEAK), summarize(torch="2.14.0", peak=other), summarize(torch="2.15.0")]]
    assert change_sentences(group) == [
        "nothing changed",
        f"peak of one thread in the run with torch 2.13.0: {PEAK}",
        f"peak of one thread in the run with torch 2.14.0: {other}",
    ]


# Cells.


def test_table_cells_show_the_figures_of_a_row(summarize):
    summary = summarize()
    [cells] = table_cells([summary])
    median, lower, upper = summary.speedup.median, summary.speedup.lower, summary.speedup.upper
    assert dict(zip(HEADERS, (cell.text for cell in cells), strict=True)) == {
        "torch": "2.13.0",
        "speedup": f"{median:.2f} [{lower:.2f}, {upper:.2f}]",
        "us/token": f"{summary.us:.1f}",
        "float32's": f"{summary.us_float32:.1f}",
        "smaller": "2.000x",
        "bytes": f"{SIZES['int8']:,}",
        "loss": "3.000200",
        "change": "+0.000200",
        "KL": "1.00e-03",
        "runs": "1",
        "verdict": "PASS",
    }


def test_table_cells_leave_an_unknown_divergence_empty(summarize):
    [cells] = table_cells([summarize(fidelity={"int8": make_fidelity(3.0002)})])
    assert cells[HEADERS.index("KL")].text == ""


def test_table_cells_of_a_row_that_was_not_measured_show_only_the_reason(summarize):
    [cells] = table_cells([summarize(absent={"int8": "no engine"})])
    assert [cell.text for cell in cells if cell.text] == ["2.13.0", "1", "no engine"]


def test_verdict_shows_the_outcome_of_the_run_if_it_differs(summarize):
    """A baseline or another scheme failed the run. The report knows only that it failed."""
    [cells] = table_cells([summarize(run={"outcome": "FAIL"})])
    assert cells[-1].text == "PASS (run: FAIL)"


# Tables of groups.


def test_heading_names_the_conditions_that_rows_share(summarize):
    conditions = "engine x86, kernels avx2, workload 0123456789abcdef, window 25, slices of 100"
    assert heading([summarize()]) == f"1 thread, {conditions}"
    assert heading([summarize(machine={"threads": 2})]) == f"2 threads, {conditions}"


def test_change_of_float32_is_said_once_for_all_schemes():
    summaries = []
    for torch, loss in (("2.13.0", 3.0), ("2.14.0", 3.1)):
        here = make_environment(
            seconds={"bf16": 1e-2},
            machine=replace(MACHINE, torch=torch),
            sizes={"bf16": 2_000},
            fidelity={FLOAT32: make_fidelity(loss), "bf16": FIDELITY["int8"]},
        )
        summaries += summarize_run(make_run(here, schemes=("int8", "bf16")))
    [group] = group_summaries(summaries)
    assert len(group) == 2
    assert change_sentences(group) == ["float32 loss moved by +0.1 with torch 2.14.0"]


def test_group_without_changes_says_so(summarize):
    [group] = group_summaries([summarize(), summarize(torch="2.14.0")])
    assert change_sentences(group) == ["nothing changed"]


def test_runs_of_one_processor_are_together_and_its_kernels_have_headings_of_their_own(summarize):
    """Runs of several machines, and of one machine under several ``LSTMQ_ISA``, in any order."""
    machines = [("one", "avx2"), ("two", "avx2"), ("one", "reference"), ("two", "portable"), ("one", "portable")]
    summaries = [summarize(machine={"cpu": cpu, "kernels": kernels}) for cpu, kernels in machines]
    groups = group_summaries(summaries)
    processors = group_by_processor(groups)
    found = [(name, [group[0][0].conditions.kernels for group in of_it]) for name, of_it in processors]
    assert found == [("one (avx2)", ["avx2", "portable", "reference"]), ("two (avx2)", ["avx2", "portable"])]
    lines = report_text(groups)
    places = [lines.index(name) for name, _ in processors]
    headings = [place for place, line in enumerate(lines) if ", kernels " in line]
    assert [sum(place < heading for heading in headings) for place in places] == [5, 2]
    page = report_html(groups, "title")
    assert re.findall("<h2>(.*)</h2>", page) == ["one (avx2)", "two (avx2)"]
    assert re.findall("<h3>.*kernels (.*?),", page) == ["avx2", "portable", "reference", "avx2", "portable"]


# Forms.


def test_every_form_starts_with_whether_to_upgrade(changed):
    advice = upgrade_sentence(changed)
    assert report_text(changed)[0] == advice
    assert report_markdown(changed)[0] == f"**{advice}**"
    page = report_html(changed, "title")
    assert page.index(f'<p class="advice">{advice}</p>') < page.index("<section>")


def test_text_lists_changes_and_marks_changed_figures_with_a_star(changed):
    lines = report_text(changed)
    assert f"- {SENTENCE}" in lines
    before, after = text_rows(lines)
    assert "*" not in before
    assert "3.000280*" in after
    assert after.count("*") == 1
    assert lines[-1].startswith("*: ")


def test_figures_are_compared_with_the_first_row_that_was_measured(summarize):
    absent = summarize(torch="2.2.0", absent={"int8": "no engine"})
    groups = group_summaries([absent, summarize(), summarize(torch="2.14.0", fidelity=HIGHER_LOSS)])
    rows = text_rows(report_text(groups))
    assert [row.count("*") for row in rows] == [0, 0, 1]
    assert rows[0].endswith("no engine")


def test_markdown_lists_changes_and_marks_changed_figures_and_failures_bold(changed, summarize):
    slow = group_summaries([summarize(seconds={"int8": 2 * SECONDS["int8"]}, run={"outcome": "FAIL"})])
    lines = report_markdown([*changed, *slow])
    headings = [line for line in lines if line.startswith("#")]
    assert headings == ["### a processor (avx2)", *(f"#### {heading(group[0])}" for group in (*changed, *slow))]
    assert f"- {SENTENCE}" in lines
    rows = [line for line in lines if line.startswith("|")]
    assert {row.count("|") for row in rows} == {len(HEADERS) + 1}
    assert [cell for row in rows for cell in row.split(" | ") if "**" in cell] == ["**3.000280**", "**FAIL** |"]


def test_markdown_escapes_bars(summarize):
    [row] = [line for line in report_markdown(group_summaries([summarize(torch="a|b")])) if "a\\|b |" in line]
    assert row.replace("\\|", "").count("|") == len(HEADERS) + 1


class TagParser(HTMLParser):
    """Collects what a page would load, and checks that its tags match."""

    VOID = ("meta", "img", "source", "link")

    def __init__(self):
        super().__init__()
        self.links, self.open_tags = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "srcset", "href")]
        self.open_tags += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag


@pytest.fixture(scope="module")
def page(summarize):
    """A page with two groups: a changed loss, and a scheme that was not measured, with markup in its texts."""
    summaries = [
        summarize(),
        summarize(torch="2.14.0", fidelity=HIGHER_LOSS),
        summarize(machine={"cpu": "<cpu>"}, absent={"int8": "<b>no</b> engine"}),
    ]
    return report_html(group_summaries(summaries), "<title> & more")


def test_html_lists_changes_and_marks_changed_figures(page):
    assert f"<li>{SENTENCE}</li>" in page
    assert re.findall('<td class="changed">(.*?)</td>', page) == ["3.000280"]
    assert page.count('<td class="PASS">PASS</td>') == 2


def test_html_escapes_text_of_other_programs(page):
    for text in ("&lt;cpu&gt;", "&lt;b&gt;no&lt;/b&gt; engine", "<title>&lt;title&gt; &amp; more</title>"):
        assert text in page
    assert "<cpu>" not in page
    assert "<b>" not in page


def test_html_page_needs_no_other_file(page):
    parser = TagParser()
    parser.feed(page)
    assert parser.open_tags == []
    assert page.count("<section>") == 2
    assert len(parser.links) == 2 * 2 * len(PLOTS)  # for each group, light and dark
    assert all(link.startswith("data:image/svg+xml;base64,") for link in parser.links)
    assert not re.search(r"@import|url\(|<script", page)
