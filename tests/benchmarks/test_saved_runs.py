"""Laws: only whole sessions are saved; ``lstmq gate`` judges them as pytest did; baselines are comparable and whole."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_interrupted_session_saves_nothing_and_concludes_nothing(suite, tmp_path):
    saving = ("--benchmark-autosave", "--benchmark-json", tmp_path / "run.json")
    result = suite(*saving, sabotage={"fake_clock": 0, "kill": "session"})
    assert result.exit_code == pytest.ExitCode.INTERRUPTED, result
    assert {*result.verdicts.values()} == {"NOT MEASURED"}
    assert "interrupted: no conclusion" in result.output
    assert "exit code" not in result.output
    assert not [*(tmp_path / "storage").rglob("*.json")]
    assert not (tmp_path / "run.json").exists()


def test_saved_run_is_the_baseline_of_the_next_session_if_it_is_comparable_and_whole(suite, lstmq, tmp_path):
    sabotage = {"fake_clock": 0.01}
    first = suite("--benchmark-autosave", sabotage=sabotage)
    second = suite("--benchmark-compare", "--benchmark-json", tmp_path / "run.json", sabotage=sabotage)
    for result in first, second:
        assert result.exit_code == 0, result
        assert {*result.verdicts.values()} == {"PASS", "----"}
    assert not first.outcomes("baseline")
    for metric in ("kept speedup", "bytes", "loss moved", "kl"):
        assert second.verdicts[f"baseline int8 {metric}"] == "PASS"

    baseline = max((tmp_path / "storage").rglob("*.json"))
    judged_again = lstmq("gate", tmp_path / "run.json", baseline)
    assert judged_again.exit_code == 0
    assert judged_again.verdicts == second.verdicts

    document = json.loads(baseline.read_text(encoding="utf-8"))
    machine = document["lstmq"]["recording"]["here"]["machine"]
    difference = f"cpu {machine['cpu']} now, another then"
    machine["cpu"] = "another"
    baseline.with_name("9998_another_cpu.json").write_text(json.dumps(document), encoding="utf-8")
    baseline.with_name("9999_cut_off.json").write_bytes(baseline.read_bytes()[:-100])
    compared = suite("--benchmark-compare=9998", sabotage=sabotage)
    assert compared.exit_code == 0, compared
    assert not compared.outcomes("baseline")
    assert any(
        line.endswith("judged by limits only") and f": {difference}; " in line for line in compared.output.splitlines()
    )
    suite("--benchmark-compare=9998", "--gate-baseline=require").check_usage_error(difference)
    suite("--benchmark-compare").check_usage_error("9999_cut_off.json: expected a saved run, found no JSON")
