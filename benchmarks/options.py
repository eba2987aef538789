"""The options of the gate: ``pytest benchmarks --gate-...``."""

from pathlib import Path

import pytest

from lstmq.gate import AGAINST_SLICES, LOOKS, Plan
from lstmq.quantization import ALL, SCHEMES
from lstmq.workload import DEFAULT_TOKENS


def looks(text: str) -> tuple[int, ...]:
    """Return the numbers of blocks in text such as ``24,48,96``."""
    return tuple(int(number) for number in text.split(","))


def share(text: str) -> float:
    """Return the share that a percentage such as ``2%`` names."""
    if not text.endswith("%"):
        raise ValueError
    return float(text.removesuffix("%")) / 100


def add_options(group: pytest.OptionGroup) -> None:
    """Add every option that :class:`~gating.Gate` reads."""
    add = group.addoption
    add("--gate-corpus", type=Path, metavar="DIR", help="folder of text, or wikitext-2 after a fetch [bundled sample]")
    add(
        "--gate-checkpoint",
        type=Path,
        metavar="FILE",
        help="trained model, .pth or .safetensors [the one in the corpus folder]",
    )
    add("--gate-vocabulary", type=Path, metavar="DIR", help="corpus of the checkpoint, if not --gate-corpus")
    add(
        "--gate-workload",
        metavar="FILE.py:FUNCTION",
        help="your own model: a function that returns it; its limits are limits.toml beside the file",
    )
    add("--gate-keep", action="append", metavar="NAME", help="module to keep in float32, such as rnn or encoder.*")
    add("--gate-tokens", type=int, metavar="N", help=f"number of tokens to time [at most {DEFAULT_TOKENS}]")
    add("--gate-bptt", type=int, default=25, metavar="N", help="longest window, in tokens [%(default)s]")
    add("--gate-threads", type=int, default=1, metavar="N", help="number of threads [%(default)s]")
    add("--gate-engine", metavar="E", help="torch's int8 engine [torch's default]")
    add(
        "--gate-scheme",
        action="append",
        choices=[ALL, *SCHEMES],
        help="scheme to gate; may be repeated [every default scheme that is installed, or those in --gate-limits]",
    )
    add("--gate-limits", type=Path, metavar="FILE", help="limits for your model [benchmarks/limits.toml]")
    add(
        "--gate-looks",
        type=looks,
        default=LOOKS,
        metavar="N,N,...",
        help="numbers of blocks after which the gate looks at its figures, and measures on what is undecided "
        f"[{','.join(map(str, LOOKS))}]",
    )
    add(
        "--gate-blocks",
        type=int,
        default=Plan.blocks,
        metavar="N",
        help="number of blocks that each process reads [%(default)s]",
    )
    add(
        "--gate-slices",
        type=int,
        metavar="N",
        help=f"number of slices in a block [{Plan.slices}; with --gate-against {AGAINST_SLICES}]",
    )
    add("--gate-seed", type=int, default=0, metavar="N", help="seed of the order of slices and models [%(default)s]")
    add("--gate-against", metavar="PYTHON", help="compare with another environment: the path of its Python")
    add(
        "--gate-tolerance",
        type=share,
        default=Plan.tolerance,
        metavar="N%",
        help=f"how much slower than in the other environment a scheme may be [{Plan.tolerance:.0%}%]",
    )
    add(
        "--gate-baseline",
        choices=["auto", "require"],
        default="auto",
        help="if --benchmark-compare finds no comparable run: judge by limits only, or fail [%(default)s]",
    )
    add("--gate-plot", type=Path, metavar="FILE", help="plot ratios and intervals: .png or .svg")
