"""Prints how far the outputs of ``int8`` and ``int8-native`` are from those of float32, for the stand-ins of published
models at their published widths. The table is in docs/native.md.

The error is that of the first windows, as a share of the norm of the float32 outputs.
"""

import random

import torch
from torch.utils._pytree import tree_leaves, tree_map

from lstmq import quantize
from stand_ins import MAKERS, make_case

STEPS = 10


def outputs(case, model):
    """Return the floating-point outputs of all modules' model for the first steps, as one vector."""
    found = []
    hook = model.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    cut = (lambda x: x[:, :STEPS]) if case.stream.get("batch_first") else (lambda x: x[:STEPS])
    torch.manual_seed(0)
    random.seed(0)
    with torch.no_grad():
        case.plain(model, *(tree_map(cut, tree) for tree in (case.inputs, case.targets)), case.first_state())
    hook.remove()
    leaves = [x for x in tree_leaves(found) if isinstance(x, torch.Tensor) and x.is_floating_point()]
    return torch.cat([x.flatten().double() for x in leaves])


def errors(name, full):
    """Return the relative errors of both schemes."""
    case = make_case(name, full=full)
    model = case.model.eval()
    exact = outputs(case, model)
    return {
        scheme: float((outputs(case, quantize(model, scheme)) - exact).norm() / exact.norm())
        for scheme in ("int8", "int8-native")
    }


if __name__ == "__main__":
    print("| model | `int8` | `int8-native` |\n|---|---:|---:|")
    for name in MAKERS:
        found = errors(name, full=True)
        print(f"| `{name}` | {found['int8']:.2g} | {found['int8-native']:.2g} |", flush=True)
