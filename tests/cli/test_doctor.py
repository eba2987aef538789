"""Laws of ``lstmq doctor``: it prints a diagnosis, writes it as JSON, and exits with 1 if there is a fault."""

import json
from dataclasses import replace

import pytest

from lstmq import doctor
from lstmq.doctor import Diagnosis, Kernels
from lstmq.doctor.system import describe_system

KERNELS = Kernels(kernels=[], second_reading={"L2": float("nan")}, weights=1)


@pytest.fixture
def diagnosis(monkeypatch):
    """A diagnosis of this system, without measurements. The command finds it."""
    diagnosis = Diagnosis(system=describe_system(1), kernels=KERNELS, faults=[], notes=["a note"])
    monkeypatch.setattr(doctor, "diagnose", lambda: diagnosis, raising=False)
    return diagnosis


def test_doctor_prints_and_writes_what_it_finds(run, diagnosis, tmp_path):
    result = run("doctor", "--json", tmp_path / "doctor.json")
    assert result.exit_code == 0, result.output
    assert result.output.endswith("note: a note\n")
    document = json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))
    assert document.keys() == {"system", "kernels", "faults", "notes", "lstmq"}
    assert document["system"]["machine"]["cpu"] == diagnosis.system.machine.cpu
    assert document["kernels"]["second_reading"] == {"L2": None}


def test_doctor_writes_json_to_standard_output_alone(run, diagnosis):
    result = run("doctor", "--json", "-")
    assert json.loads(result.stdout)["notes"] == ["a note"]
    assert "note: a note" in result.stderr


def test_doctor_exits_with_1_if_there_is_a_fault(run, diagnosis, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "diagnose", lambda: replace(diagnosis, faults=["wrong bits"]), raising=False)
    result = run("doctor", "--json", tmp_path / "doctor.json")
    assert result.exit_code == 1
    assert "fault: wrong bits; please report all of this" in result.output
    assert json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))["faults"] == ["wrong bits"]
