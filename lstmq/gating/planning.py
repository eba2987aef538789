"""What a session gates, from the options: the limits, the schemes and the plan."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lstmq.gate import AGAINST_SLICES, LOOKS, Environment, Limits, Pace, Plan, limits_workload
from lstmq.gate.statistics import CONFIDENCE
from lstmq.model import ModelConfig
from lstmq.quantization import ALL, SCHEMES, select_schemes
from lstmq.workload import Workload

AGAINST_SCHEMES = ("int8", "int8-native")  # compared with another environment if the user names no scheme
LIMITS = "limits.toml"


@dataclass(frozen=True, kw_only=True)
class LimitsSource:
    """Where the limits of a session are, and what they are for.

    Attributes:
        path: the file.
        workload: ``FILE.py:FUNCTION`` of the model that they are for; ``None`` for the tutorial's model.
        are_own: whether they are for a model of the user. Limits for the tutorial's model do not apply to the size and
            the speed of a model of another shape.
    """

    path: Path
    workload: str | None
    are_own: bool


def find_limits(config: pytest.Config, folder: Path) -> LimitsSource:
    """Return the limits that ``--gate-limits`` names, or else those beside ``--gate-workload``, or beside the tests.

    Args:
        config: with the options.
        folder: of the tests.

    Raises:
        ValueError: if there are none, or their file is not valid.
        OSError: if it cannot be read.
    """
    named, spec = config.getoption("--gate-limits"), config.getoption("--gate-workload")
    path = named or (Path(spec.rpartition(":")[0]).resolve().parent if spec else folder) / LIMITS
    if not named and not path.is_file():
        owner = "your own workload needs its own limits" if spec else "the gate needs limits"
        raise ValueError(f"{owner}: --gate-limits FILE, or {path}; `lstmq init FILE.py:FUNCTION` writes them")
    workload = spec or limits_workload(path)
    return LimitsSource(path=path, workload=workload, are_own=bool(named or workload))


def choose_schemes(
    named: list[str] | None, source: LimitsSource, limits: Limits, workload: Workload, against: bool
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the schemes to gate, and what each scheme left out needs.

    Args:
        named: the schemes that the user named.
        source: where the limits come from.
        limits: the limits.
        workload: what the session measures.
        against: whether there is another environment.

    Raises:
        ValueError: if there is no such scheme, or the limits have no row for one.
    """
    if unknown := {*(named or [])} - {ALL, *SCHEMES}:
        raise ValueError(f"--gate-scheme: no such scheme: {min(unknown)!r}, expected {', '.join([ALL, *SCHEMES])}")
    limited = [scheme for scheme in SCHEMES if scheme in limits]
    if not named and source.are_own:
        named = limited
    known = [scheme for scheme in limited if not against or scheme in AGAINST_SCHEMES]
    schemes, left_out = select_schemes(named or [], workload.speed.model, known)
    if not schemes:
        raise ValueError(f"{source.path}: expected limits for a scheme, {', '.join(SCHEMES)}, found none")
    return schemes, left_out


def exempt_metrics(source: LimitsSource, workload: Workload) -> list[str]:
    """Return the metrics that the default limits do not apply to, because the model has another shape."""
    if source.are_own:
        return []
    config: Any = workload.speed.model.config
    other_shape = replace(config, dropout=0) != replace(ModelConfig(), dropout=0)
    return ["size_ratio", "speedup"] if other_shape else []


def make_plan(config: pytest.Config, schemes: tuple[str, ...], pace: Pace) -> Plan:
    """Return what the options ask for. With another environment, a block has more slices of the quantized models."""
    option = config.getoption
    bptt, slices = option("--gate-bptt"), option("--gate-slices")
    plan = Plan(
        schemes=schemes,
        looks=option("--gate-looks") or LOOKS,
        blocks=option("--gate-blocks") or Plan.blocks,
        tolerance=Plan.tolerance if option("--gate-tolerance") is None else option("--gate-tolerance"),
        tokens=pace.steps,
        bptt=bptt,
        threads=option("--gate-threads"),
        engine=option("--gate-engine"),
        seed=option("--gate-seed"),
    )
    if option("--gate-against"):
        slices = slices or pace.slices * AGAINST_SLICES // Plan.slices
        return replace(plan, slices=slices, float32_slices=min(2, slices))
    slices = slices or pace.slices
    return replace(plan, slices=slices, float32_slices=slices)


def share_error(plan: Plan, figures: int) -> Plan:
    """Return the plan, with the number of noisy figures that share the error.

    Raises:
        ValueError: if the last look has too few blocks for that many.
    """
    plan = replace(plan, figures=figures)
    if not plan.planned_looks.can_settle:
        looks = ", ".join(map(str, plan.looks))
        raise ValueError(
            f"--gate-looks: {looks} blocks are too few for {CONFIDENCE:.0%} confidence of {figures} figures"
        )
    return plan


def find_other_environment(config: pytest.Config, workload: Workload) -> Environment | None:
    """Return the environment that ``--gate-against`` names: a Python, or a checkout that has one.

    Raises:
        ValueError: if there is no Python, or the other checkout has no such workload.
    """
    against, other = config.getoption("--gate-against"), config.getoption("--gate-against-workload")
    if not against:
        if other:
            raise ValueError("--gate-against-workload needs --gate-against")
        return None
    folder = Path(against)
    if not folder.is_dir():
        if not shutil.which(against):
            raise ValueError(f"--gate-against: expected a Python, found nothing to run at {against}")
        return Environment.there(against, other or "")
    pythons = [folder / place for place in (".venv/bin/python", "venv/bin/python", "bin/python")]
    python = next((path for path in pythons if path.is_file()), None)
    if python is None:
        raise ValueError(f"--gate-against: expected a Python at {pythons[0]}, found none; or give the path of one")
    if workload.made_by and not other:
        other = _same_workload(workload.made_by, folder, [config.invocation_params.dir, config.rootpath])
    return Environment.there(python.absolute(), other or "")


def _same_workload(spec: str, checkout: Path, roots: list[Path]) -> str:
    """Return the workload at the same path in another checkout."""
    file, _, function = spec.rpartition(":")
    for root in roots:
        if Path(file).is_relative_to(root.resolve()):
            path = checkout.resolve() / Path(file).relative_to(root.resolve())
            if path.is_file():
                return f"{path}:{function}"
    raise ValueError(f"{checkout} has no file like {file}: name it with --gate-against-workload FILE.py:FUNCTION")
