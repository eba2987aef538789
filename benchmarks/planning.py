"""What a session gates, from the options: the limits, the schemes and the plan."""

from dataclasses import replace
from pathlib import Path

import pytest

from lstmq import SCHEMES, ModelConfig, Workload
from lstmq.gate import AGAINST_SLICES, Limits, Pace, Plan
from lstmq.gate.statistics import CONFIDENCE
from lstmq.quantization import select_schemes

AGAINST_SCHEMES = ("int8", "int8-native")  # compared with another environment if the user names no scheme
DEFAULT_LIMITS = Path(__file__).with_name("limits.toml")  # for the tutorial's shape


def find_limits(named: Path | None, workload: Workload) -> Path:
    """Return the file of limits: the named one, the one beside a user's workload, or the default.

    Raises:
        ValueError: if there is none for a user's workload.
    """
    if named or not workload.made_by:
        return named or DEFAULT_LIMITS
    beside = Path(workload.made_by.rpartition(":")[0]).with_name(DEFAULT_LIMITS.name)
    if not beside.is_file():
        raise ValueError(f"your own workload needs its own limits: --gate-limits FILE, or {beside}")
    return beside


def choose_schemes(
    named: list[str] | None, limits_file: Path, limits: Limits, workload: Workload, against: bool
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the schemes to gate, and what each scheme left out needs.

    Args:
        named: the schemes that the user named.
        limits_file: where the limits come from.
        limits: the limits.
        workload: what the session measures.
        against: whether there is another environment.

    Raises:
        ValueError: if the limits have no row for a scheme.
    """
    limited = [scheme for scheme in SCHEMES if scheme in limits]
    if not named and limits_file != DEFAULT_LIMITS:
        named = limited
    known = [scheme for scheme in limited if not against or scheme in AGAINST_SCHEMES]
    schemes, left_out = select_schemes(named or [], workload.speed.model, known)
    if not schemes:
        raise ValueError(f"{limits_file}: expected limits for a scheme, {', '.join(SCHEMES)}, found none")
    return schemes, left_out


def exempt_metrics(limits_file: Path, workload: Workload) -> list[str]:
    """Return the metrics that the default limits do not apply to, because the model has another shape."""
    if limits_file != DEFAULT_LIMITS:
        return []
    config: ModelConfig = workload.speed.model.config
    other_shape = replace(config, dropout=0) != replace(ModelConfig(), dropout=0)
    return ["size_ratio", "speedup"] if other_shape else []


def make_plan(config: pytest.Config, schemes: tuple[str, ...], pace: Pace) -> Plan:
    """Return what the options ask for. With another environment, a block has more slices of the quantized models."""
    option = config.getoption
    bptt, slices = option("--gate-bptt"), option("--gate-slices")
    plan = Plan(
        schemes=schemes,
        looks=option("--gate-looks"),
        blocks=option("--gate-blocks"),
        tolerance=option("--gate-tolerance"),
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
