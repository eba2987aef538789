"""Cuts ids into columns and windows: :func:`batchify` and :func:`get_batch`."""

from torch import Tensor


def batchify(data: Tensor, bsz: int) -> Tensor:
    """Cut a text into ``bsz`` columns that a model reads side by side.

    With 26 tokens and ``bsz=4``, each column has 6 tokens, and the last 2 tokens are dropped::

        a b c d e f g h i j k l m n o p q r s t u v w x y z   ->   a g m s
                                                                   b h n t
                                                                   c i o u
                                                                   d j p v
                                                                   e k q w
                                                                   f l r x

    A model treats the columns as independent. It cannot learn that ``g`` follows ``f``, but reads several columns at
    once, which is faster. (From PyTorch's word language model example.)

    Args:
        data: int64 ids, shape ``(tokens,)``.
        bsz: number of columns, from 1 to ``tokens``.

    Returns:
        int64, shape ``(tokens // bsz, bsz)``, contiguous.

    Raises:
        ValueError: if ``data`` does not have one dimension, or ``bsz`` is out of range.

    Example:
        >>> import torch
        >>> from lstmq import batchify
        >>> batchify(torch.arange(7), bsz=2)
        tensor([[0, 3],
                [1, 4],
                [2, 5]])
    """
    if data.dim() != 1:
        raise ValueError(f"expected ids of shape (tokens,), found shape {tuple(data.shape)}")
    if bsz < 1:
        raise ValueError(f"the batch size must be at least 1, found {bsz}")
    steps = len(data) // bsz
    if steps < 1:
        raise ValueError(f"a text of {len(data):,} tokens is too short for {bsz:,} columns")
    return data[: steps * bsz].view(bsz, steps).t().contiguous()


def get_batch(source: Tensor, i: int, bptt: int) -> tuple[Tensor, Tensor]:
    """Return the window that starts at step ``i``, and its targets: the next word of each of its words.

    Args:
        source: int64 ids from :func:`batchify`, shape ``(steps, bsz)``.
        i: first step of the window, from 0 to ``steps - 2``. (The last step is a target only.)
        bptt: longest window, in steps; at least 1.

    Returns:
        The window, int64, shape ``(n, bsz)``, and the targets, int64, shape ``(n * bsz,)``, where ``n`` is
        ``min(bptt, steps - 1 - i)``.

    Raises:
        ValueError: if ``i`` or ``bptt`` is out of range.

    Example:
        >>> import torch
        >>> from lstmq import batchify, get_batch
        >>> source = batchify(torch.arange(10), bsz=2)
        >>> data, targets = get_batch(source, 0, bptt=3)
        >>> data
        tensor([[0, 5],
                [1, 6],
                [2, 7]])
        >>> targets
        tensor([1, 6, 2, 7, 3, 8])
    """
    if bptt < 1:
        raise ValueError(f"bptt must be at least 1 step, found {bptt}")
    if not 0 <= i < len(source) - 1:
        raise ValueError(f"no window starts at step {i} of a source of {len(source):,} steps: the last has no target")
    n = min(bptt, len(source) - 1 - i)
    return source[i : i + n], source[i + 1 : i + 1 + n].reshape(-1)
