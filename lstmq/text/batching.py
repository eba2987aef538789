"""Texts into columns and windows: :func:`batchify`, :func:`get_batch`."""

from torch import Tensor


def batchify(data: Tensor, bsz: int) -> Tensor:
    """Cut a stream into ``bsz`` columns that are read side by side.

    With 26 tokens and ``bsz=4``, every column is 6 long and the last 2 tokens are trimmed::

        a b c d e f g h i j k l m n o p q r s t u v w x y z   ->   a g m s
                                                                   b h n t
                                                                   c i o u
                                                                   d j p v
                                                                   e k q w
                                                                   f l r x

    A model treats the columns as independent, so what ``f`` says about ``g`` is not learned, but the columns are
    processed together, which is faster. (After PyTorch's word language model example.)

    Args:
        data: int64, shape ``(tokens,)``.
        bsz: columns; at least 1 and at most ``tokens``.

    Returns:
        int64, shape ``(tokens // bsz, bsz)``, contiguous.

    Raises:
        ValueError: if ``data`` is not a stream, or too short to give every column a token.
    """
    if data.dim() != 1:
        raise ValueError(f"expected a stream of shape (tokens,), found shape {tuple(data.shape)}")
    if bsz < 1:
        raise ValueError(f"the batch size must be at least 1, found {bsz}")
    steps = len(data) // bsz
    if steps < 1:
        raise ValueError(f"a stream of {len(data):,} tokens is too short for {bsz:,} columns")
    return data[: steps * bsz].view(bsz, steps).t().contiguous()


def get_batch(source: Tensor, i: int, bptt: int) -> tuple[Tensor, Tensor]:
    """Return the window that starts at step ``i``, and the next word of each of its words.

    Args:
        source: int64 from :func:`batchify`, shape ``(steps, bsz)``.
        i: the window's first step, from 0 to ``steps - 2``: the last step is a target only.
        bptt: longest window, in steps; at least 1.

    Returns:
        data, int64, shape ``(n, bsz)``, and targets, int64, shape ``(n * bsz,)``, where
        ``n = min(bptt, steps - 1 - i)`` steps have a target.

    Raises:
        ValueError: if ``i`` has no target, or ``bptt < 1``.
    """
    if bptt < 1:
        raise ValueError(f"bptt must be at least 1 step, found {bptt}")
    if not 0 <= i < len(source) - 1:
        raise ValueError(f"no window starts at step {i} of a source of {len(source):,} steps: the last has no target")
    n = min(bptt, len(source) - 1 - i)
    return source[i : i + n], source[i + 1 : i + 1 + n].reshape(-1)
