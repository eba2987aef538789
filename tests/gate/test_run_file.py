"""Laws of saved runs: a run that is read equals the one that was saved; a damaged file is refused in one line."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq.gate import run_file
from lstmq.gate.baseline import select_baseline
from lstmq.gate.judge import judge_run
from lstmq.gate.limits import load_limits
from lstmq.gate.run_file import KEY, RunError, read_run, run_document
from lstmq.gate.statistics import ConfidenceInterval, exact
from lstmq.gate.verdicts import Outcome, not_measured, worst
from lstmq.quantization.schemes import FLOAT32
from lstmq.report.page import report_markdown
from lstmq.report.summaries import group_summaries, summarize_run
from lstmq.report.tables import describe_environments, verdict_markdown
from runs import PEAK, SECONDS, make_environment, make_fidelity, make_run, make_slices, noisy_runs, save_run

SHORT = {model: make_slices(seconds, workers=8, slices=2) for model, seconds in SECONDS.items()}
WORDS = {model: make_slices(SECONDS[model], workers=8, slices=1) for model in (FLOAT32, "int8")}
ABSENT = {"bf16": "this torch has no bf16"}
RUN = make_run(
    make_environment("here", SHORT, absent=ABSENT, words=WORDS, peak=PEAK),
    make_environment("there", SHORT, absent=ABSENT),
    schemes=("int8", "bf16"),
    exempt=["size_ratio"],
    others={"corpus": {"bytes_per_token": exact(3.0)}},
)
DOCUMENT = {KEY: json.loads(json.dumps(run_document(RUN, [])))}
TEXT = json.dumps(DOCUMENT).encode()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The path of a file that each example writes again."""
    return tmp_path_factory.mktemp("runs") / "run.json"


def refuse(path):
    """Return the line by which a file is refused."""
    with pytest.raises((RunError, OSError)) as caught:
        read_run(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)
    return str(caught.value)


# What is saved.


@given(noisy_runs())
def test_saved_run_is_read_as_it_was(path, run):
    assert read_run(save_run(path, run)) == run
    assert judge_run(read_run(path)) == judge_run(run)


def test_saved_run_of_every_kind_of_field_is_read_as_it_was(path):
    assert read_run(save_run(path, RUN, judge_run(RUN))) == RUN


def test_saved_nan_and_infinity_are_read_as_they_were(path):
    """A model may compute NaN, and an interval of few numbers is infinite."""
    fidelity = {"int8": make_fidelity(math.nan, math.nan, math.nan)}
    others = {"evaluate": {"overhead": ConfidenceInterval(median=1.0, lower=-math.inf, upper=math.inf)}}
    run = make_run(make_environment(fidelity=fidelity), others=others)
    saved = read_run(save_run(path, run))
    assert saved.others == others
    assert math.isnan(saved.figures("int8")["loss_difference"].median)
    assert math.isnan(saved.figures("int8")["kl"].median)
    assert worst(judge_run(saved)) is Outcome.INVALID
    json.dumps(json.loads(path.read_text()), allow_nan=False)


def test_verdicts_are_saved_as_json_that_any_reader_accepts():
    """JSON has neither NaN nor infinity. Against a baseline of two slices, an interval is infinite."""
    short = make_run({model: make_slices(seconds, workers=2) for model, seconds in SECONDS.items()})
    verdicts = [*judge_run(short, make_run()), not_measured("bf16", "all", "")]
    saved = json.loads(json.dumps(run_document(short, verdicts), allow_nan=False))["verdicts"]
    [kept] = [verdict for verdict in saved if verdict["metric"] == "kept speedup"]
    assert kept["figure"]["upper"] is None
    assert saved[-1]["figure"] is None


def test_run_that_was_saved_before_runs_had_a_peak_and_words_is_read(path):
    document = damage((*RECORDING, "here", "peak"), remove)
    for place in ((*RECORDING, "here", "words"), (*RECORDING, "plan", "words")):
        parent = document
        for key in place[:-1]:
            parent = parent[key]
        del parent[place[-1]]
    path.write_text(json.dumps(document))
    here = read_run(path).recording.here
    assert (here.peak, here.words) == (None, {})


def test_limits_with_toml_dates_are_saved_as_text(path):
    """TOML has dates, JSON does not."""
    row = 'speedup = { at_least = 2, measured = 3, date = 2026-11-24, machine = "a machine", command = "pytest" }'
    path.write_text(f"[int8]\n{row}\n")
    run = make_run(limits=load_limits(path))
    assert read_run(save_run(path, run)).limits["int8"].default["speedup"].date == "2026-11-24"


# What is not a run.


@given(cut=st.integers(0, len(TEXT) - 1))
def test_file_that_was_cut_off_anywhere_is_refused(path, cut):
    path.write_bytes(TEXT[:cut])
    refuse(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found no JSON, or a file that was cut off"),
        (b"\xff\xfe\xfa", "found no JSON"),
        (TEXT.replace(b"a processor", b"a proc\xe9sseur"), "found no JSON"),
        (b"[" * 100_000, "found no JSON"),
        (b'{"lstmq":' * 100_000, "found no JSON"),
        (b"9" * 5_000, "found no JSON"),  # Python refuses to read such a long integer
        (b"{}", "found no session in it"),
        (b"[]", "found no session in it"),
        (b"[1, 2]", "found no session in it"),
        (b"null", "found no session in it"),
        (b'"lstmq"', "found no session in it"),
        (b'{"benchmarks": []}', "found no session in it"),
        (b'{"lstmq": null}', "found no session in it"),
        (b'{"lstmq": {}}', "in version 5, found version None"),
        (b'{"lstmq": {"version": []}}', "in version 5, found version []"),
        (TEXT.replace(b'"version": 5', b'"version": 1'), "in version 5, found version 1"),
        (TEXT.replace(b'"version": 5', b'"version": 3'), "found version 3, which an older lstmq wrote; measure again"),
        (b'{"lstmq": {"version": 5}}', "a damaged one: Object missing required field `recording`"),
    ],
)
def test_file_that_is_not_a_saved_run_is_refused_in_one_line(path, content, message):
    path.write_bytes(content)
    assert message in refuse(path)


def test_missing_file_folder_and_too_large_file_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    assert "No such file" in refuse(path)
    assert "expected a file, found a folder" in refuse(tmp_path)
    path.write_bytes(TEXT)
    monkeypatch.setattr(run_file, "MAX_FILE_BYTES", len(TEXT) - 1)
    assert f"at most {len(TEXT) - 1:,} bytes, found {len(TEXT):,}" in refuse(path)


# Damaged runs.

WRONG = (None, "text", [], {}, ["text"], -1, 0, 0.5, True, math.nan, math.inf, 10**400, 1e300, 1e-300)


def find_places(node, place=()):
    """Return the place of every value in a document: the keys that lead to it."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place, *(found for key, value in inner for found in find_places(value, (*place, key)))]


# One place of each kind, because the slices and workers are all alike.
PLACES = list(
    {tuple(0 if isinstance(key, int) else key for key in place): place for place in find_places(DOCUMENT)[1:]}.values()
)


def damage(place, change):
    """Return the document after ``change(parent, key)`` for a place."""
    parent = document = json.loads(TEXT)
    for key in place[:-1]:
        parent = parent[key]
    change(parent, place[-1])
    return document


def remove(parent, key):
    del parent[key]


def put(value):
    return lambda parent, key: parent.__setitem__(key, value)


def assert_refused_or_usable(path, document):
    """Assert that the run is refused in one line, or can be judged, shown and be a baseline."""
    path.write_text(json.dumps(document))
    try:
        run = read_run(path)
    except RunError as error:
        assert str(error).startswith(f"{path}: expected ")
        assert len(str(error).splitlines()) == 1
        return
    verdicts = [*judge_run(run), *judge_run(run, RUN), *judge_run(RUN, run)]
    assert worst(verdicts) in Outcome
    verdict_markdown(verdicts, describe_environments(run.recording))
    select_baseline([run], RUN.conditions, ["int8"])
    report_markdown(group_summaries(summarize_run(run)))


def test_run_without_any_one_value_is_refused_or_usable(path):
    for place in PLACES:
        assert_refused_or_usable(path, damage(place, remove))


@settings(max_examples=200)
@given(st.sampled_from(PLACES), st.sampled_from(WRONG))
def test_run_with_any_wrong_value_is_refused_or_usable(path, place, wrong):
    assert_refused_or_usable(path, damage(place, put(wrong)))


RECORDING = (KEY, "recording")
INT8_SECONDS = (*RECORDING, "here", "seconds", "int8")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        *(
            (damage((KEY, name), remove), f"damaged one: Object missing required field `{name}`")
            for name in ("recording", "workload", "limits", "exempt", "cases", "date")
        ),
        (damage((*RECORDING, "plan", "schemes"), put([])), "a plan without a scheme"),
        (damage((*RECORDING, "plan", "blocks"), put(0)), "blocks must be at least 1, found 0"),
        (damage((*RECORDING, "plan", "looks"), put([7])), "not 2 times for each of at most 7 processes"),
        (damage((*RECORDING, "there", "absent", "bf16"), remove), "no figures of bf16 there"),
        (damage(INT8_SECONDS, remove), "times of float32, float32 again for the models"),
        (damage((*INT8_SECONDS, 3), remove), "7 processes of int8, expected 8"),
        (damage((*INT8_SECONDS, 3, 1), remove), "not 2 times for each of at most 8 processes"),
        (damage((*INT8_SECONDS, 3, 1), put(0)), "a time of int8 that is out of range"),
        (damage((*INT8_SECONDS, 3, 1), put(None)), "none for one that it reads"),
        (
            damage((*RECORDING, "here", "fidelity", "int8", "losses"), put([3.0])),
            "not one loss for each window of int8",
        ),
        (damage((*RECORDING, "there", "fidelity", "int8", "losses"), put([5e306] * 10)), "overflow"),
        (damage((*RECORDING, "there", "fidelity", "int8", "losses"), put([math.inf, -math.inf] * 5)), "-inf + inf"),
        (damage((*RECORDING, "plan", "tokens"), put(10**400)), "int too large"),
        (damage((*RECORDING, "here", "sizes", "int8", "parts", "rnn"), put(2**63)), "a size of int8"),
        (damage((*RECORDING, "here", "sizes", "int8", "total"), put(0)), "a size of int8 that is out of range"),
        (
            damage((KEY, "limits", "int8", "default", "kl", "at_most"), put("little")),
            "Expected `float | null`, got `str`",
        ),
        (damage((*RECORDING, "here", "words", "int8", 3), remove), "not 1 times word by word for each of 8 processes"),
        (damage((*RECORDING, "here", "words", "int8", 3, 0), put(0)), "a time of int8 word by word that is missing"),
        (damage((*RECORDING, "here", "words", "int8", 0, 0), put(None)), "a time of int8 word by word that is missing"),
        (damage((*RECORDING, "here", "words", "float32"), remove), "KeyError: 'float32'"),
        (damage((*RECORDING, "here", "peak", "reading", 0, "size"), put(10**400)), "too large"),
        (damage((KEY, "date"), put("yesterday")), "Invalid isoformat string: 'yesterday'"),
    ],
)
def test_damaged_run_is_refused_by_a_line_that_names_the_damage(path, document, message):
    path.write_text(json.dumps(document))
    assert message in refuse(path)
