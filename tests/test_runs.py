"""Laws of saved runs: one comes back as it was; anything else is refused in one line, or can be judged."""

import copy
import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import baselines, batchify, gate, next_words, page, report, runs
from lstmq.environments import HERE, THERE
from lstmq.history import side_by_side, standings
from lstmq.intervals import over_workers
from lstmq.quantization import FLOAT32
from lstmq.runs import RunError, as_json, conditions, describe_workload, differences, from_json
from lstmq.subjects import Subject, Workload
from lstmq.verdicts import Outcome, not_measured, worst
from lstmq.worker import COPY
from strategies import FAR, SECONDS, SIZES, a_run, noisy_runs, slices, stream

ABSENT = {"absent": {"bf16": "this torch cannot"}}
SHORT = {name: slices(seconds, workers=8, each=2) for name, seconds in SECONDS.items()}
RUN = a_run(SHORT, SHORT, schemes=("int8", "bf16"), told=ABSENT, told_there=ABSENT, exempt=["size_ratio"])


def document_of(run):
    """Return what pytest-benchmark saves, with nothing but what is ours in it, as it comes back from a file."""
    saved = {runs.KEY: as_json(run, [{"outcome": each.outcome} for each in gate.judge(run)])}
    return json.loads(json.dumps(saved))


DOCUMENT = document_of(RUN)
TEXT = json.dumps(DOCUMENT).encode()


@settings(max_examples=40)
@given(noisy_runs())
def test_a_run_that_is_saved_comes_back_as_it_was(run):
    again = from_json(document_of(run), "a file")
    assert again.recording == replace(run.recording, plan=run.recording.plan | {"schemes": ["int8"]})
    assert replace(again, recording=run.recording) == run
    assert gate.judge(again) == gate.judge(run)


def test_what_is_saved_is_json_to_any_reader():
    """Whose JSON may have neither NaN nor infinity: a baseline of two slices has an infinite interval."""
    few = a_run({name: slices(seconds, workers=2) for name, seconds in SECONDS.items()})
    verdicts = [asdict(each) for each in gate.judge(few, a_run())]
    verdicts.append(asdict(not_measured("bf16", "all", "")))  # whose figure is NaN
    saved = json.loads(json.dumps(as_json(few, verdicts), allow_nan=False))
    [kept] = [each for each in saved["verdicts"] if each["metric"] == "kept speedup"]
    assert kept["figure"]["upper"] is None


def test_floors_with_dates_are_saved_as_text(tmp_path):
    """TOML has dates and JSON has none."""
    from lstmq.floors import load_floors

    row = 'speedup = { at_least = 2, measured = 3, date = 2026-11-24, machine = "a machine", command = "pytest" }'
    (tmp_path / "floors.toml").write_text(f"[int8]\n{row}\n")
    run = a_run(floors=load_floors(tmp_path / "floors.toml"))
    again = from_json(document_of(run), "a file")
    assert again.floors["int8"]["speedup"]["date"] == "2026-11-24"


def test_a_file_is_read_as_what_is_in_it(tmp_path):
    (tmp_path / "run.json").write_bytes(TEXT)
    assert runs.read(tmp_path / "run.json") == from_json(DOCUMENT, "a file")


def refused(path):
    """Return the one line that a file is refused in."""
    with pytest.raises((RunError, OSError)) as caught:
        runs.read(path)
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
    monkeypatch.setattr(runs, "LARGEST", len(TEXT) - 1)
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
    for verdicts in (gate.judge(run), gate.judge(run, RUN), gate.judge(RUN, run)):
        assert worst(verdicts) in Outcome
        report.verdict_lines(verdicts)
        report.verdict_markdown(verdicts, report.environments(run.recording))
    baselines.choose([run], RUN.conditions, ["int8"])
    for group in side_by_side(standings(run)):
        page.text([group])


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
            from_json(damaged((runs.KEY, key), removed), "a file")
    with pytest.raises(RunError, match="a plan without a scheme"):
        nothing = damaged((runs.KEY, "recording", "plan", "schemes"), lambda parent, key: parent.__setitem__(key, []))
        from_json(nothing, "a file")
    seconds = (runs.KEY, "recording", "seconds", HERE)
    with pytest.raises(RunError, match="times of"):
        from_json(damaged((*seconds, "int8"), removed), "a file")
    with pytest.raises(RunError, match="nothing of bf16 there"):
        from_json(damaged((runs.KEY, "recording", "environments", THERE, "absent", "bf16"), removed), "a file")
    with pytest.raises(RunError, match="times for each of 8 workers"):
        from_json(damaged((*seconds, "int8", 3), removed), "a file")
    with pytest.raises(RunError, match="times for each of 8 workers"):
        from_json(damaged((*seconds, "int8", 3, 1), removed), "a file")
    with pytest.raises(RunError, match="a time of int8"):
        from_json(damaged((*seconds, "int8", 3, 1), lambda parent, key: parent.__setitem__(key, 0)), "a file")


# Comparing.


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"told": {"machine": {"cpu": "another"}}}, "cpu a processor now, another then"),
        ({"told": {"machine": {"isa": "avx512_vnni"}}}, "isa avx2 now, avx512_vnni then"),
        ({"told": {"machine": {"engine": "qnnpack"}}}, "engine x86 now, qnnpack then"),
        ({"told": {"machine": {"threads": 2}}}, "threads 1 now, 2 then"),
        (
            {"workload": {"speed": "a model", "loss": "a model", "fingerprint": "fedcba"}},
            "workload 0123456789abcdef now, fedcba then",
        ),
        ({"tokens": 50}, "slice 100 now, 50 then"),
        ({"told": {"machine": {"torch": "2.14.0"}}}, None),
        ({"told": {"machine": {"python": "3.14.0"}}}, None),
        ({"date": "another"}, None),
        ({"floors": {}}, None),
        ({"here": SHORT}, None),
    ],
)
def test_runs_are_of_the_same_conditions_or_it_is_told_which_differ(change, told):
    assert differences(a_run().conditions, a_run(**change).conditions) == ([told] if told else [])


def test_another_window_is_another_condition():
    other = a_run()
    other.recording.plan["bptt"] = 1
    assert differences(a_run().conditions, other.conditions) == ["window 25 now, 1 then"]


def test_all_that_differs_is_told():
    nothing = conditions({}, {}, {})
    assert nothing.keys() == {"cpu", "isa", "engine", "threads", "workload", "window", "slice"}
    assert len(differences(a_run().conditions, nothing)) == 7


def test_a_fingerprint_is_of_shapes_weights_and_ids_and_of_nothing_else(model):
    def of(**change):
        facts = {"model": model, "stream": next_words(batchify(stream(30, 50, 0), 1)), "origin": "a"}
        subject = Subject(**facts | change)
        return describe_workload(Workload(speed=subject, loss=subject))["fingerprint"]

    other = copy.deepcopy(model)
    other.decoder.bias.data[0] += 1
    assert of() == of(origin="b") == of(model=copy.deepcopy(model))
    assert len({of(), of(model=other), of(stream=next_words(batchify(stream(30, 50, 1), 1)))}) == 3
    assert describe_workload(
        Workload(
            speed=Subject(model=model, stream=next_words(batchify(stream(30, 5, 0), 1)), origin="one"),
            loss=Subject(model=model, stream=next_words(batchify(stream(30, 5, 0), 1)), origin="two"),
        )
    ).items() >= {("speed", "one"), ("loss", "two")}


# Figures.


def test_the_figures_are_ratios_of_the_same_slices_and_differences_from_float32():
    """Of made-up seconds: worker by worker, float32 takes 3, 4, ... times as long as int8."""
    float32 = [[float(worker + 3)] * 4 for worker in range(9)]
    run = a_run({FLOAT32: float32, COPY: float32, "int8": [[1.0] * 4] * 9})
    figures = run.figures("int8")
    assert figures["speedup"] == run.speedup("int8") == over_workers(float32)
    assert (figures["speedup"].median, figures["speedup"].lower, figures["speedup"].upper) == (7, 3, 11)
    assert figures["size_ratio"].median == SIZES[FLOAT32] / SIZES["int8"]
    assert figures["loss_difference"].median == pytest.approx(FAR["int8"][0] - FAR[FLOAT32][0])
    assert (figures["kl"].median, figures["agreement"].median) == FAR["int8"][1:]
    assert run.us_per_token(HERE, FLOAT32) == 7 / 100 * 1e6
    run.recording.plan["columns"] = 5
    assert run.us_per_token(HERE, FLOAT32) == pytest.approx(7 / 500 * 1e6)
    assert run.fidelity(HERE, "int8").loss == pytest.approx(FAR["int8"][0])


def test_a_mean_loss_is_over_tokens_and_not_over_windows():
    run = a_run()
    run.recording.environments[HERE]["fidelity"]["int8"] |= {"losses": [1.0, 4.0], "tokens": [2, 1]}
    assert run.fidelity(HERE, "int8").loss == 2


def test_ratios_are_of_slices_that_both_read():
    here = {FLOAT32: [[3.0, None]], COPY: [[3.0, None]], "int8": [[1.0, 2.0]]}
    run = a_run(here, here)
    assert run.ratios((HERE, FLOAT32), (HERE, "int8")) == [[3.0]]
    assert run.ratios((HERE, "int8"), (THERE, "int8")) == [[1.0, 1.0]]


def test_the_builder_builds_what_can_be_judged():
    """So that what tests say of made-up runs is of runs."""
    assert worst(gate.judge(a_run(there={}), a_run())) is Outcome.PASS
