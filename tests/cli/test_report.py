"""Laws of ``lstmq report``: what changed is shown, in every form; the page needs nothing but itself."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from lstmq.cli import main
from lstmq.gate.run_file import KEY, as_json
from lstmq.report import page
from strategies import FAR, SECONDS, SIZES, a_run

LOSS, KL, AGREEMENT = FAR["int8"]
MOVED = {"far": {"int8": (LOSS + 8e-5, KL, AGREEMENT)}}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def saved(tmp_path):
    """Give ``saved("run", torch="2.14.0", ...)``: the path of a file that holds a run of that torch."""

    def saved(name, torch="2.13.0", here=None, machine=None, of=(), **told):
        run = a_run(here, told={"machine": {"torch": torch} | (machine or {}), **told}, **dict(of))
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"benchmarks": [], KEY: as_json(run, [])}))
        return path

    return saved


def report(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_what_changed_is_shown_as_text_markdown_and_html(saved, tmp_path):
    files = [saved("new", torch="2.14.0", **MOVED), saved("old"), saved("other", machine={"cpu": "<another>"})]
    out = {kind: tmp_path / f"out.{kind}" for kind in ("md", "html", "svg")}
    result = report(*files, "--markdown", out["md"], "--html", out["html"], "--plot", out["svg"])
    assert result.exit_code == 0, result.output
    sentence = "int8 loss moved by +8e-05 at torch 2.14.0"
    assert f"- {sentence}" in result.output.splitlines()
    [row] = [line for line in result.output.splitlines() if line.startswith("2.14.0")]
    assert "3.000280*" in row
    assert row.endswith("PASS")
    markdown = out["md"].read_text(encoding="utf-8")
    assert f"- {sentence}\n" in markdown
    assert "| **3.000280** |" in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {len(page.HEADERS) + 1}
    html = out["html"].read_text(encoding="utf-8")
    assert f"<li>{sentence}</li>" in html
    assert '<td class="moved">3.000280</td>' in html
    assert "&lt;another&gt;" in html
    assert "<another>" not in html
    assert html.count("<section>") == markdown.count("### ") == 2  # another processor is apart
    drawn = out["svg"].read_text(encoding="utf-8")
    for words in ("speedup, 99 % interval; a dash: its floor", "us/token", "MB: int8", "decoder", "2.14.0"):
        assert f"<!-- {words} -->" in drawn


class Links(HTMLParser):
    """Collects what a page would load, and whether its tags match."""

    VOID = ("meta", "img", "source", "link")

    def __init__(self):
        super().__init__()
        self.links, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "srcset", "href")]
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_but_itself(saved, tmp_path):
    report(saved("run"), "--html", tmp_path / "page.html")
    parser = Links()
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    parser.feed(html)
    assert parser.open == []
    assert len(parser.links) == 6  # three plots, for light and for dark
    assert all(link.startswith("data:image/svg+xml;base64,") for link in parser.links)
    assert not re.search(r"@import|url\(|<script", html)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path; .ci/run installs one")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_can_be_read_in_a_browser_light_and_dark_on_a_phone_and_a_desk(saved, tmp_path, scheme, width):
    playwright = pytest.importorskip("playwright.sync_api")
    report(saved("old"), saved("new", torch="2.14.0", **MOVED), "--html", tmp_path / "page.html")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        complaints = []
        view.on("console", lambda message: complaints.append(message.text))
        view.on("requestfailed", lambda request: complaints.append(request.url))
        view.goto((tmp_path / "page.html").as_uri())
        images = view.evaluate("[...document.images].map(i => [i.naturalWidth, i.width, i.currentSrc])")
        wide = view.evaluate("document.documentElement.scrollWidth")
        ink = view.evaluate("getComputedStyle(document.body).color")
        shown = view.inner_text("body")
        browser.close()
    assert complaints == []
    assert wide <= width  # a wide table scrolls by itself
    assert len(images) == 3
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    sources = re.findall(r'srcset="([^"]+)"' if scheme == "dark" else r' src="([^"]+)"', html)
    assert [source for _, _, source in images] == sources
    assert all(natural > 0 and 100 < drawn <= width for natural, drawn, _ in images)
    assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 382) == (scheme == "dark")  # light ink on dark paper
    assert "int8 loss moved by +8e-05 at torch 2.14.0" in shown


def test_a_folder_of_runs_is_a_row_a_torch_and_a_history_with_its_changes(saved, tmp_path):
    for day in range(1, 25):
        slower = {"int8": SECONDS["int8"] * (1 if day < 13 else 1.3)}
        saved(f"run{day:02}", here=slower, of={"date": f"2026-10-{day:02}T12:00:00+00:00"})
    (tmp_path / "notes.json").write_text("{}")
    result = report(tmp_path, "--history", tmp_path / "history.svg")
    assert result.exit_code == 0, result.output
    assert sum(line.startswith("2.13.0") for line in result.output.splitlines()) == 1
    assert result.stderr == f"lstmq: passed over 1 files that hold no run of this version: {tmp_path / 'notes.json'}\n"
    drawn = (tmp_path / "history.svg").read_text(encoding="utf-8")
    assert re.findall("<!--  (2026-.*) -->", drawn) == ["2026-10-13"]  # at its line, the first day that was slower


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["nowhere.json"], "nowhere.json"),
        (["EMPTY"], "found no .json in it"),
        (["TEXT"], "text.json: expected a saved run, found no JSON"),
        (["NOTES"], "found none among 1 files"),
        (["RUN", "--html", "no/such/page.html"], "no such folder to write to"),
        (["RUN", "--plot", "plot.txt"], "expected a .png, .svg or .pdf to draw to"),
        (["RUN", "--history", "no/such/plot.png"], "no such folder to draw to"),
        (["RUN", "--history", "OUT", "--scheme", "bf16"], "expected runs of bf16 to draw, found those of int8"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(saved, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.json").write_text("{}")
    (tmp_path / "text.json").write_text("text")
    places = {"EMPTY": "empty", "NOTES": "notes", "TEXT": "text.json", "OUT": "out.svg"}
    paths = {name: tmp_path / place for name, place in places.items()} | {"RUN": saved("run")}
    result = report(*(paths.get(each, each) for each in arguments))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("lstmq: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert result.stdout == ""  # it is found out before anything is read or shown


def test_a_page_without_matplotlib_is_one_line(saved, monkeypatch, tmp_path):
    monkeypatch.setattr("lstmq.figures.find_spec", lambda name: None)
    result = report(saved("run"), "--html", tmp_path / "page.html")
    assert result.exit_code == 2
    assert result.stderr == "lstmq: error: drawing needs matplotlib: pip install 'lstmq[plot]'\n"


def test_what_a_session_failed_by_is_shown_beside_what_the_floors_say(saved):
    """Of a baseline, or another scheme, the report knows only that the session failed."""
    result = report(saved("run", of={"outcome": "FAIL"}))
    [row] = [line for line in result.output.splitlines() if line.startswith("2.13.0")]
    assert row.endswith("PASS (run: FAIL)")


def test_what_moved_is_against_the_first_that_was_measured(saved):
    absent = saved("absent", torch="2.2.0", absent={"int8": "no engine"})
    document = json.loads(absent.read_text())
    here = document[KEY]["recording"]
    here["environments"]["here"]["models"].remove("int8")
    del here["seconds"]["here"]["int8"]
    document[KEY]["cases"] = []
    absent.write_text(json.dumps(document))
    result = report(absent, saved("old"), saved("new", torch="2.14.0", **MOVED))
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("2.")]
    assert [row.count("*") for row in rows] == [0, 0, 1]
    assert rows[0].endswith("no engine")


def test_sizes_are_those_of_the_run(saved):
    result = report(saved("run"))
    assert f"{SIZES['int8']:,}" in result.output
    assert "2.000x" in result.output
