"""Laws of floors: what are none is refused by name; a row of one's processor is the row; a replacement lets pass."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.comparison.machine import INSTRUCTION_SETS
from lstmq.gate.judge import judge_limits
from lstmq.gate.limits import OTHER_CASES, check_limits, describe_limit, limits_for, load_limits
from lstmq.gate.proposals import proposed_limit
from lstmq.gate.statistics import exact
from lstmq.gate.verdicts import Outcome
from lstmq.quantization.schemes import SCHEMES
from strategies import MACHINE

FLOORS = Path(__file__).parents[2] / "benchmarks" / "limits.toml"


@pytest.mark.parametrize(
    "text",
    [
        "speed",
        "[int8]\nspeedup = 2",
        "[int8]\nspeedup = {}",
        "[int8]\nspeedup = { measured = 2 }",
        "int8 = 3",
        "\xff",
        "[int8]\nspeedup = { at_least = 'much' }",
        "[int8]\nspeedup = { at_least = 1, at_most = 'little' }",
        "[int8]\nspeedup = { at_least = [1] }",
        "[int8.avx2]\nspeedup = 2",
        "[int8.avx2]\nspeedup = { at_least = 'much' }",
        "[int8.avx512]\nspeedup = { at_least = 1 }",
        "[int8]\navx2 = 3",
        "[int_8]\nspeedup = { at_least = 1 }",
    ],
)
def test_what_are_no_floors_is_refused_by_name_in_one_line(tmp_path, text):
    (tmp_path / "limits.toml").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"floors\.toml: ") as caught:
        load_limits(tmp_path / "limits.toml")
    assert "\n" not in str(caught.value)


def test_floors_that_are_not_there_are_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_limits(tmp_path / "limits.toml")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_a_row_of_the_processors_replaces_the_general_one_and_no_other(tmp_path, isa):
    (tmp_path / "limits.toml").write_text(
        f"[int8]\nspeedup = {{ at_least = 1 }}\nkl = {{ at_most = 2 }}\n[int8.{isa}]\nspeedup = {{ at_least = 3 }}\n"
    )
    floors = load_limits(tmp_path / "limits.toml")
    assert limits_for(floors, "int8", isa) == {"speedup": {"at_least": 3}, "kl": {"at_most": 2}}
    for other in {*INSTRUCTION_SETS, "default"} - {isa}:
        assert limits_for(floors, "int8", other) == {"speedup": {"at_least": 1}, "kl": {"at_most": 2}}
    assert limits_for(floors, "bf16", isa) == {}


def test_every_limit_of_the_suite_says_what_measured_it_and_passes_what_was_measured():
    floors = load_limits(FLOORS)
    assert SCHEMES.keys() <= floors.keys() <= SCHEMES.keys() | {*OTHER_CASES}
    seen = 0
    for case, table in floors.items():
        for isa in ("none of them", *INSTRUCTION_SETS):
            for metric, row in limits_for(floors, case, isa).items():
                assert row.keys() >= {"measured", "date", "machine", "command"}
                [verdict, *_] = judge_limits(case, {metric: exact(row["measured"])}, floors, isa)
                assert verdict.outcome is Outcome.PASS, verdict
                seen += 1
        assert table.keys() - INSTRUCTION_SETS
    assert seen > 5 * len(floors)


def test_a_limit_is_told_in_words():
    assert describe_limit({"at_least": -0.01, "at_most": 0.01, "measured": 0}) == "at least -0.01 and at most 0.01"
    assert describe_limit({"at_most": 1234.5}) == "at most 1234.5"


METRICS = ["speedup", "size_ratio", "overhead", "bytes_per_token", "loss_difference", "kl", "agreement"]


@given(
    metric=st.sampled_from(METRICS),
    before=st.floats(0.01, 100),
    figure=st.floats(0.01, 100),
    slack=st.floats(0, 0.9),
    sides=st.sampled_from([("at_least",), ("at_most",), ("at_least", "at_most")]),
)
def test_a_replacement_is_a_row_that_lets_the_figure_pass_as_the_old_one_let_pass_what_was_measured(
    metric, before, figure, slack, sides
):
    """By as large a share of a ratio, by as much of a difference; to the digits that a row has."""
    limit = {"at_least": before * (1 - slack), "at_most": before * (1 + slack)}
    row = {side: limit[side] for side in sides} | {"measured": before}
    told = proposed_limit(metric, row, figure, MACHINE, "2026-11-24", "pytest benchmarks")
    [[name, new]] = tomllib.loads(told).items()
    assert name == metric
    assert str(new["date"]) == "2026-11-24"
    assert new["command"] == "pytest benchmarks"
    assert new["machine"] == "a processor (avx2), torch 2.13.0"
    assert new["measured"] == pytest.approx(figure, rel=1e-3)
    assert {*sides} == new.keys() & {"at_least", "at_most"}
    assert new.get("at_least", figure) <= figure <= new.get("at_most", figure)
    for side in sides:
        if metric in ("loss_difference", "kl", "agreement"):
            expected = figure + (limit[side] - before)
        else:
            expected = figure * (limit[side] / before)
        assert new[side] == pytest.approx(expected, rel=1e-3, abs=1e-9)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_row_that_does_not_say_what_was_measured_is_replaced_by_one_that_lets_pass(limit, figure):
    for side in ("at_least", "at_most"):
        told = proposed_limit("speedup", {side: limit}, figure, MACHINE, "2026-11-24", "pytest")
        new = tomllib.loads(told)["speedup"]
        assert new[side] == pytest.approx(figure, rel=1e-3)
        assert new.get("at_least", figure) <= figure <= new.get("at_most", figure)


@given(st.text(st.characters(codec="utf-8"), max_size=12), st.text(st.characters(codec="utf-8"), max_size=12))
def test_a_replacement_is_toml_whatever_the_command_and_the_processor_are_called(cpu, command):
    """A path of Windows, or -k with quotes, is in the command."""
    told = proposed_limit("kl", {"at_most": 1, "measured": 0.5}, 2.0, MACHINE | {"cpu": cpu}, "2026-11-24", command)
    new = tomllib.loads(told)["kl"]
    assert new["command"] == command
    assert new["machine"] == f"{cpu} (avx2), torch 2.13.0"


def test_what_was_measured_is_a_number():
    """Or a replacement could not be computed from it, at the end of a session."""
    with pytest.raises(ValueError, match="speedup"):
        check_limits({"int8": {"speedup": {"at_least": 2, "measured": "about 3"}}}, "limits.toml")
