"""Laws of saved runs: one comes back as it was; anything else is refused in one line, or can be judged."""

import copy
import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq.gate import baseline, judge, run_file
from lstmq.gate.processes import HERE, THERE
from lstmq.gate.run_file import RunError, as_json, from_json
from lstmq.gate.verdicts import Outcome, not_measured, worst
from lstmq.report import page, tables
from lstmq.report.history import group_summaries, summarize_run
from strategies import SECONDS, a_run, noisy_runs, slices

ABSENT = {"absent": {"bf16": "this torch cannot"}}
SHORT = {name: slices(seconds, workers=8, each=2) for name, seconds in SECONDS.items()}
RUN = a_run(SHORT, SHORT, schemes=("int8", "bf16"), told=ABSENT, told_there=ABSENT, exempt=["size_ratio"])


def document_of(run):
    """Return what pytest-benchmark saves, with nothing but what is ours in it, as it comes back from a file."""
    document = {run_file.KEY: as_json(run, [{"outcome": each.outcome} for each in judge.judge(run)])}
    return json.loads(json.dumps(document))


DOCUMENT = document_of(RUN)
TEXT = json.dumps(DOCUMENT).encode()


@settings(max_examples=40)
@given(noisy_runs())
def test_a_run_that_is_saved_comes_back_as_it_was(run):
    again = from_json(document_of(run), "a file")
    assert again.recording == replace(run.recording, plan=run.recording.plan | {"schemes": ["int8"]})
    assert replace(again, recording=run.recording) == run
    assert judge.judge(again) == judge.judge(run)


def test_what_is_saved_is_json_to_any_reader():
    """Whose JSON may have neither NaN nor infinity: a baseline of two slices has an infinite interval."""
    few = a_run({name: slices(seconds, workers=2) for name, seconds in SECONDS.items()})
    verdicts = [asdict(each) for each in judge.judge(few, a_run())]
    verdicts.append(asdict(not_measured("bf16", "all", "")))  # whose figure is NaN
    saved = json.loads(json.dumps(as_json(few, verdicts), allow_nan=False))
    [kept] = [each for each in saved["verdicts"] if each["metric"] == "kept speedup"]
    assert kept["figure"]["upper"] is None


def test_floors_with_dates_are_saved_as_text(tmp_path):
    """TOML has dates and JSON has none."""
    from lstmq.gate.limits import load_limits

    row = 'speedup = { at_least = 2, measured = 3, date = 2026-11-24, machine = "a machine", command = "pytest" }'
    (tmp_path / "limits.toml").write_text(f"[int8]\n{row}\n")
    run = a_run(floors=load_limits(tmp_path / "limits.toml"))
    again = from_json(document_of(run), "a file")
    assert again.floors["int8"]["speedup"]["date"] == "2026-11-24"


def test_a_file_is_read_as_what_is_in_it(tmp_path):
    (tmp_path / "run.json").write_bytes(TEXT)
    assert run_file.read_run(tmp_path / "run.json") == from_json(DOCUMENT, "a file")


def refused(path):
    """Return the one line that a file is refused in."""
    with pytest.raises((RunError, OSError)) as caught:
        run_file.read_run(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)
    return str(caught.value)


@settings(max_examples=60)
@given(cut=st.integers(0, len(TEXT) - 1))
def test_a_run_that_is_cut_anywhere_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.getbasetemp() / "cut.json"
    path.write_bytes(TEXT[:cut])
    refused(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON, or a cut one"),
        (b"\xff\xfe\xfa", "no JSON"),
        (TEXT.replace(b"a processor", b"a proc\xe9sseur"), "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"lstmq":' * 100_000, "no JSON"),
        (b"{}", "no session in it"),
        (b"[]", "no session in it"),
        (b"[1, 2]", "no session in it"),
        (b"null", "no session in it"),
        (b'"lstmq"', "no session in it"),
        (b'{"benchmarks": []}', "no session in it"),
        (b'{"lstmq": null}', "no session in it"),
        (b'{"lstmq": {}}', "version 3, found version None"),
        (TEXT.replace(b'"version": 3', b'"version": 1'), "version 3, found version 1"),
        (b'{"lstmq": {"version": 3}}', "damaged one: no 'recording'"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "run.json").write_bytes(content)
    assert message in refused(tmp_path / "run.json")


def test_no_file_a_folder_and_a_file_that_is_too_large_are_refused(tmp_path, monkeypatch):
    assert "No such file" in refused(tmp_path / "run.json")
    assert "directory" in refused(tmp_path)
    (tmp_path / "run.json").write_bytes(TEXT)
    monkeypatch.setattr(run_file, "LARGEST", len(TEXT) - 1)
    assert f"found {len(TEXT):,} bytes" in refused(tmp_path / "run.json")


# Damage.

WRONG = (None, "text", [], {}, ["text"], -1, 0, 0.5, True, math.nan, math.inf, 10**400, 1e300, 1e-300)


def paths(node, path=()):
    """Return where everything in a document is."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(found for key, value in inner for found in paths(value, (*path, key)))]


# One path of each kind: what is true of one slice of one worker is so of all.
SEEN = {}
for place in paths(DOCUMENT)[1:]:
    SEEN.setdefault(tuple(0 if isinstance(key, int) else key for key in place), place)
NODES = [*SEEN.values()]


def damaged(path, change):
    """Return the document with ``change(parent, key)`` done at a path."""
    document = copy.deepcopy(DOCUMENT)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return document


def is_refused_or_judged(document):
    """And what is judged can be shown, and be the baseline of another run."""
    try:
        run = from_json(document, "a file")
    except RunError as error:
        assert str(error).startswith("a file: expected ")
        assert len(str(error).splitlines()) == 1
        return
    for verdicts in (judge.judge(run), judge.judge(run, RUN), judge.judge(RUN, run)):
        assert worst(verdicts) in Outcome
        tables.verdict_lines(verdicts)
        tables.verdict_markdown(verdicts, tables.describe_environments(run.recording))
    baseline.select_baseline([run], RUN.conditions, ["int8"])
    for group in group_summaries(summarize_run(run)):
        page.report_text([group])


def removed(parent, key):
    del parent[key]


def test_whatever_is_missing_the_run_is_refused_or_can_be_judged():
    for path in NODES:
        is_refused_or_judged(damaged(path, removed))


@settings(max_examples=250)
@given(st.sampled_from(NODES), st.sampled_from(WRONG))
def test_whatever_is_of_another_kind_the_run_is_refused_or_can_be_judged(path, wrong):
    is_refused_or_judged(damaged(path, lambda parent, key: parent.__setitem__(key, wrong)))


def test_what_is_missing_is_named():
    for key in ("recording", "workload", "floors", "exempt", "cases", "failures", "date", "outcome"):
        with pytest.raises(RunError, match=f"damaged one: no '{key}'"):
            from_json(damaged((run_file.KEY, key), removed), "a file")
    with pytest.raises(RunError, match="a plan without a scheme"):
        nothing = damaged(
            (run_file.KEY, "recording", "plan", "schemes"), lambda parent, key: parent.__setitem__(key, [])
        )
        from_json(nothing, "a file")
    seconds = (run_file.KEY, "recording", "seconds", HERE)
    with pytest.raises(RunError, match="times of"):
        from_json(damaged((*seconds, "int8"), removed), "a file")
    with pytest.raises(RunError, match="nothing of bf16 there"):
        from_json(damaged((run_file.KEY, "recording", "environments", THERE, "absent", "bf16"), removed), "a file")
    with pytest.raises(RunError, match="times for each of 8 workers"):
        from_json(damaged((*seconds, "int8", 3), removed), "a file")
    with pytest.raises(RunError, match="times for each of 8 workers"):
        from_json(damaged((*seconds, "int8", 3, 1), removed), "a file")
    with pytest.raises(RunError, match="a time of int8"):
        from_json(damaged((*seconds, "int8", 3, 1), lambda parent, key: parent.__setitem__(key, 0)), "a file")
