"""Laws of ``lstmq report``.

1. Text, Markdown and HTML show the same figures and the same changes.
2. The HTML page needs no other file. In light and dark, on a phone and on a desktop, a browser shows it whole, and its
   text is large enough.
3. Folders are searched for runs; one torch version is one row; the history marks the days of changes.
4. Wrong input prints one line and exits with 2 before anything is shown.
"""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from lstmq.cli import main
from lstmq.quantization import FLOAT32
from lstmq.report import page
from runs import FIDELITY, LIMITS, MACHINE, SECONDS, SIZES, make_environment, make_fidelity, make_run, save_run

INT8 = FIDELITY["int8"]
SENTENCE = "int8 loss moved by +8e-05 with torch 2.14.0"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def run_with_machine(**fields):
    """Return a run on a machine whose fields differ from the default, such as ``torch``."""
    return make_run(make_environment(machine=replace(MACHINE, **fields)))


CHANGED = make_run(
    make_environment(
        machine=replace(MACHINE, torch="2.14.0"),
        fidelity={"int8": make_fidelity(INT8.loss + 8e-5, INT8.kl, INT8.agreement)},
    )
)


@pytest.fixture
def save(tmp_path):
    """Return a function that saves a run to a file of this name, and returns the path."""
    return lambda name, run: save_run(tmp_path / f"{name}.json", run)


@pytest.fixture
def report(run):
    """Return a function that runs ``lstmq report`` with these arguments."""
    return lambda *arguments: run("report", *arguments)


def table_rows(output):
    """Return the rows of the tables, which start with a version of torch."""
    return [line for line in output.splitlines() if line.startswith("2.")]


def test_text_markdown_and_html_show_the_same_change(save, report, monkeypatch, tmp_path):
    monkeypatch.setattr(page, "plot_svg", lambda name, group, dark: b"<svg/>")  # drawing takes seconds
    files = [save("new", CHANGED), save("old", make_run()), save("other", run_with_machine(cpu="<another>"))]
    result = report(*files, "--markdown", tmp_path / "out.md", "--html", tmp_path / "out.html")
    assert result.exit_code == 0, result.output
    assert f"- {SENTENCE}" in result.output.splitlines()
    [row] = [row for row in table_rows(result.output) if row.startswith("2.14.0")]
    assert "3.000280*" in row
    assert row.endswith("PASS")
    markdown = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert f"- {SENTENCE}\n" in markdown
    assert "| **3.000280** |" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {len(page.HEADERS) + 1}
    html = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert f"<li>{SENTENCE}</li>" in html
    assert '<td class="changed">3.000280</td>' in html
    assert "&lt;another&gt;" in html
    assert "<another>" not in html
    assert html.count("<section>") == markdown.count("\n### ") == 2  # the other processor has its own section


@pytest.mark.slow
def test_plot_shows_speedups_times_and_sizes_by_version(save, report, tmp_path):
    path = tmp_path / "out.svg"
    result = report(save("new", CHANGED), save("old", make_run()), "--plot", path)
    assert result.exit_code == 0, result.output
    svg = path.read_text(encoding="utf-8")
    for text in ("speedup; dash: limit", "us/token", "MB by part", "decoder", "2.13.0", "2.14.0"):
        assert f"<!-- {text} -->" in svg


class PageParser(HTMLParser):
    """Collects what a page would load, and checks that its tags match."""

    VOID_TAGS = ("meta", "img", "source", "link")

    def __init__(self):
        super().__init__()
        self.links, self.open_tags = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "srcset", "href")]
        self.open_tags += [] if tag in self.VOID_TAGS else [tag]

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag


@pytest.mark.slow
def test_html_page_loads_no_other_file(save, report, tmp_path):
    report(save("run", make_run()), "--html", tmp_path / "page.html")
    parser = PageParser()
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    parser.feed(html)
    assert parser.open_tags == []
    assert len(parser.links) == 6  # three plots, in light and in dark
    assert all(link.startswith("data:image/svg+xml;base64,") for link in parser.links)
    assert not re.search(r"@import|url\(|<script", html)


@pytest.fixture(scope="module")
def wide_page(tmp_path_factory):
    """A page as wide as pages get: sizes and versions of torch with many characters, several schemes and processors."""
    schemes = ("int8", "int8-embedding", "bf16", "int8-native", "ort-int8")
    limits = dict.fromkeys(schemes, LIMITS["int8"])
    folder = tmp_path_factory.mktemp("wide")
    versions = ("2.2.2+cu121", "2.4.1+cpu", "2.6.0+cpu", "2.8.0+cpu", "2.10.0+cpu", "2.12.0+cpu", "2.13.0+cpu")
    for cpu in ("AMD EPYC 9R14 96-Core Processor", "Apple M1"):
        for torch in (*versions, "2.16.0.dev20261101+cu132"):
            environment = make_environment(
                seconds={scheme: SECONDS["int8"] * (1 + 0.05 * n) for n, scheme in enumerate(schemes)},
                sizes={FLOAT32: 113_949_123} | dict.fromkeys(schemes, 79_739_864),
                fidelity=dict.fromkeys(schemes, INT8),
                machine=replace(MACHINE, cpu=cpu, torch=torch),
            )
            run = make_run(environment, schemes=schemes, limits=limits, outcome="INCONCLUSIVE")
            save_run(folder / f"{cpu} {torch}.json", run)
    save_run(folder / "changed.json", CHANGED)
    path = folder / "page.html"
    assert CliRunner().invoke(main, ["report", str(folder), "--html", str(path)]).exit_code == 0
    return path


# What JavaScript knows about a page. A plot is an image, so its text is measured in a copy inside the page.
MEASURE = """async () => {
  const visible = [...document.querySelectorAll('body *')].filter(e => e.innerText?.trim() && !e.children.length)
  const plots = await Promise.all([...document.images].map(async image => {
    const text = await (await fetch(image.currentSrc)).text()
    const svg = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement
    const scale = image.width / svg.viewBox.baseVal.width
    document.body.append(svg)
    const sizes = [...svg.querySelectorAll('text')].map(e => scale * parseFloat(getComputedStyle(e).fontSize))
    svg.remove()
    return {natural: image.naturalWidth, shown: image.width, source: image.currentSrc, sizes}
  }))
  return {
    plots,
    sizes: visible.map(e => parseFloat(getComputedStyle(e).fontSize)),
    width: document.documentElement.scrollWidth,
    tables: [...document.querySelectorAll('.wide')].map(e => [e.scrollWidth, e.clientWidth]),
    color: getComputedStyle(document.body).color,
    first: document.querySelector('h1').nextElementSibling.innerText,
    text: document.body.innerText,
  }
}"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path; .ci/run installs one")
@pytest.mark.parametrize(("width", "color_scheme"), [(360, "light"), (1000, "light"), (1000, "dark"), (1280, "dark")])
def test_browser_shows_the_page_whole_and_legible_on_a_phone_and_a_desktop(wide_page, color_scheme, width):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=color_scheme)
        complaints = []
        view.on("console", lambda message: complaints.append(message.text))
        view.on("requestfailed", lambda request: complaints.append(request.url))
        view.goto(wide_page.as_uri())
        page = view.evaluate(MEASURE)
        browser.close()
    assert complaints == []
    assert page["width"] <= width
    if width >= 1000:  # on a phone, a wide table scrolls inside the page
        assert all(needed <= shown for needed, shown in page["tables"])
    assert len(page["tables"]) == 11
    assert page["first"].startswith("Do not upgrade to torch 2.16.0.dev20261101 yet: ")
    assert min(page["sizes"]) >= 14
    assert len(page["plots"]) == 9
    for plot in page["plots"]:
        assert plot["natural"] > 0
        assert 300 < plot["shown"] <= width
        assert len(plot["sizes"]) > 5
        assert min(plot["sizes"]) >= 11
    html = wide_page.read_text(encoding="utf-8")
    sources = re.findall(r'srcset="([^"]+)"' if color_scheme == "dark" else r' src="([^"]+)"', html)
    assert [plot["source"] for plot in page["plots"]] == sources
    is_light_text = sum(map(int, re.findall(r"\d+", page["color"])[:3])) > 382
    assert is_light_text == (color_scheme == "dark")
    assert "nothing changed" in page["text"]


@pytest.mark.slow
def test_folder_of_runs_is_one_row_per_torch_version_and_a_history_with_its_changes(save, report, tmp_path):
    for day in range(1, 25):
        seconds = {"int8": SECONDS["int8"] * (1 if day < 13 else 1.3)}
        save(f"run{day:02}", make_run(seconds, date=f"2026-10-{day:02}T12:00:00+00:00"))
    notes = tmp_path / "notes.json"
    notes.write_text("{}")
    result = report(tmp_path, "--history", tmp_path / "history.svg")
    assert result.exit_code == 0, result.output
    assert len(table_rows(result.output)) == 1
    assert result.stderr == f"lstmq: skipped 1 files without a run of this version: {notes}\n"
    svg = (tmp_path / "history.svg").read_text(encoding="utf-8")
    assert re.findall("<!--  (2026-.*) -->", svg) == ["2026-10-13"]  # the first day that was slower


def test_outcome_of_the_run_is_shown_if_it_differs_from_the_outcome_by_the_limits(save, report):
    """A baseline or another scheme may have failed, about which the report knows only the outcome."""
    [row] = table_rows(report(save("run", make_run(outcome="FAIL"))).output)
    assert row.endswith("PASS (run: FAIL)")


def test_changes_are_marked_against_the_first_version_that_was_measured(save, report):
    absent = make_run(make_environment(machine=replace(MACHINE, torch="2.2.0"), absent={"int8": "no engine"}))
    result = report(save("absent", absent), save("old", make_run()), save("new", CHANGED))
    assert result.exit_code == 0, result.output
    rows = table_rows(result.output)
    assert [row.count("*") for row in rows] == [0, 0, 1]
    assert rows[0].endswith("no engine")
    assert "- int8 was not measured with torch 2.2.0: no engine" in result.output.splitlines()


def test_sizes_are_those_that_the_run_recorded(save, report):
    [row] = table_rows(report(save("run", make_run())).output)
    assert f"{SIZES['int8']:,}" in row
    assert "2.000x" in row


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["nowhere.json"], "nowhere.json"),
        (["EMPTY"], "expected saved runs, found no .json in it"),
        (["TEXT"], "text.json: expected a saved run, found no JSON"),
        (["NOTES"], "expected runs of lstmq's benchmarks, found none among 1 files"),
        (["RUN", "--html", "no/such/page.html"], "no such folder to write to"),
        (["RUN", "--markdown", "no/such/out.md"], "no such folder to write to"),
        (["RUN", "--plot", "plot.txt"], "expected a .png, .svg or .pdf to draw to"),
        (["RUN", "--history", "no/such/plot.png"], "no such folder to draw to"),
        (
            ["RUN", "--history", "OUT", "--scheme", "bf16"],
            "expected runs of bf16 that are not too noisy to plot, found: int8",
        ),
    ],
)
def test_wrong_input_prints_one_line_and_exits_with_2(save, report, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.json").write_text("{}")
    (tmp_path / "text.json").write_text("text")
    names = {"EMPTY": "empty", "NOTES": "notes", "TEXT": "text.json", "OUT": "out.svg"}
    paths = {word: tmp_path / name for word, name in names.items()} | {"RUN": save("run", make_run())}
    result = report(*(paths.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("lstmq: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_html_without_matplotlib_prints_how_to_install_it(save, report, monkeypatch, tmp_path):
    monkeypatch.setattr("lstmq.figures.find_spec", lambda name: None)
    result = report(save("run", make_run()), "--html", tmp_path / "page.html")
    assert result.exit_code == 2
    assert result.stderr == "lstmq: error: drawing needs matplotlib: pip install 'lstmq[plot]'\n"
