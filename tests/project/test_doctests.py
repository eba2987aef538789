"""Law of examples: each name of the public API has an example in its docstring, and it prints what it shows."""

import ast
import doctest
import importlib
from itertools import pairwise
from pathlib import Path

import pytest

import lstmq

CHECKOUT = Path(__file__).parents[2]
CONSTANTS = {"SCHEMES": "lstmq.quantization.schemes"}  # name and module


def constant_docstring(name, module):
    """Return the string below the assignment of a constant, which Python itself does not keep."""
    source = Path(importlib.import_module(module).__file__).read_text(encoding="utf-8")
    (docstring,) = (
        below.value.value
        for node, below in pairwise(ast.parse(source).body)
        if isinstance(node, ast.AnnAssign) and node.target.id == name
    )
    return docstring


def examples_of(name):
    """Return the examples of a public name and of its methods."""
    if name in CONSTANTS:
        docstring = constant_docstring(name, CONSTANTS[name])
        return [doctest.DocTestParser().get_doctest(docstring, {}, name, CONSTANTS[name], 0)]
    return doctest.DocTestFinder(exclude_empty=True).find(getattr(lstmq, name), name, globs={})


@pytest.mark.parametrize("name", lstmq.__all__)
def test_public_name_has_an_example_that_prints_what_it_shows(name, monkeypatch):
    monkeypatch.chdir(CHECKOUT)  # the examples read data/sample
    runner = doctest.DocTestRunner()
    for example in examples_of(name):
        runner.run(example)
    assert runner.tries > 0, f"{name} has no example"
    assert runner.failures == 0, f"an example of {name} prints something else, see the captured output"
