"""The options of the gate: ``pytest --gate-...``.

Every pytest in an environment with lstmq imports this module, so it imports nothing but pytest. ``planning.py`` knows
the defaults, and the tests compare them with the help texts.
"""

from pathlib import Path

import pytest


def looks(text: str) -> tuple[int, ...]:
    """Return the numbers of blocks in text such as ``24,48,96``."""
    return tuple(int(number) for number in text.split(","))


def share(text: str) -> float:
    """Return the share that a percentage such as ``2%`` names."""
    if not text.endswith("%"):
        raise ValueError
    return float(text.removesuffix("%")) / 100


def add_options(group: pytest.OptionGroup) -> None:
    """Add every option that :class:`~lstmq.gating.session.Gate` reads."""
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
        help="your own model: a function that returns it [the one that the limits name]",
    )
    add("--gate-keep", action="append", metavar="NAME", help="module to keep in float32, such as rnn or encoder.*")
    add("--gate-tokens", type=int, metavar="N", help="number of tokens to time [at most 5,000]")
    add("--gate-bptt", type=int, default=25, metavar="N", help="longest window, in tokens [%(default)s]")
    add("--gate-threads", type=int, default=1, metavar="N", help="number of threads [%(default)s]")
    add("--gate-engine", metavar="E", help="torch's int8 engine [torch's default]")
    add(
        "--gate-scheme",
        action="append",
        metavar="SCHEME",
        help="scheme to gate, or all; may be repeated [every default scheme that is installed, or those in the limits]",
    )
    add("--gate-limits", type=Path, metavar="FILE", help="limits for your model [limits.toml beside the tests]")
    add(
        "--gate-looks",
        type=looks,
        metavar="N,N,...",
        help="numbers of blocks after which the gate looks at its figures, and measures on what is undecided "
        "[24,48,96]",
    )
    add("--gate-blocks", type=int, metavar="N", help="number of blocks that each process reads [6]")
    add("--gate-slices", type=int, metavar="N", help="number of slices in a block [6; with --gate-against 30]")
    add("--gate-seed", type=int, default=0, metavar="N", help="seed of the order of slices and models [%(default)s]")
    add(
        "--gate-retries",
        type=int,
        default=0,
        metavar="N",
        help="how often to measure again if the session is inconclusive or the machine too noisy [%(default)s]",
    )
    add(
        "--gate-against",
        metavar="PYTHON",
        help="compare with another environment: its Python, or a checkout with one in .venv",
    )
    add(
        "--gate-against-workload",
        metavar="FILE.py:FUNCTION",
        help="your own model in the other environment [the same file in the other checkout, or else the same file]",
    )
    add(
        "--gate-tolerance",
        type=share,
        metavar="N%",
        help="how much slower than in the other environment a scheme may be [2%%]",
    )
    add(
        "--gate-baseline",
        choices=["auto", "require"],
        default="auto",
        help="if --benchmark-compare finds no comparable run: judge by limits only, or fail [%(default)s]",
    )
    add("--gate-plot", type=Path, metavar="FILE", help="plot ratios and intervals: .png or .svg")


def check_compare(compare: str) -> None:
    """Check that the value of ``--benchmark-compare`` may be a saved run.

    Raises:
        ValueError: if it is a folder or a file of tests, or a missing file.
    """
    path = Path(compare)
    if path.is_dir() or path.suffix == ".py":
        command = f"pytest {compare} --benchmark-compare"
        raise ValueError(
            f"--benchmark-compare takes {compare} for the name of a saved run: put it last, as in `{command}`"
        )
    if (len(path.parts) > 2 or path.is_absolute()) and not path.is_file():
        raise ValueError(f"--benchmark-compare: no such file: {compare}")
