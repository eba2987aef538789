"""Saves matplotlib figures. matplotlib is optional, so callers check for it before long work."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lstmq.files import atomic_write, is_stdout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")


def check_matplotlib() -> None:
    """Raise ``ValueError`` if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise ValueError("drawing needs matplotlib: pip install 'lstmq[plot]'")


def check_figure_path(path: Path) -> None:
    """Check that a figure can be saved to ``path``. Call it before the work whose result the figure shows.

    Standard output, ``-``, gets a PNG.

    Raises:
        ValueError: if matplotlib is not installed, the suffix is unknown, or the folder does not exist.
    """
    check_matplotlib()
    if is_stdout(path):
        return
    if path.suffix not in SUFFIXES:
        raise ValueError(f"expected a .png, .svg or .pdf to draw to, found {path}")
    if not path.parent.is_dir():
        raise ValueError(f"no such folder to draw to: {path.parent}")


def save_figure(figure: "Figure", path: Path) -> None:
    """Save a figure in the format that the suffix of ``path`` names, or as a PNG to standard output."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png" if is_stdout(path) else path.suffix[1:])
