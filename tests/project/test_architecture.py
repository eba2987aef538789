"""The law of the house: one direction. A module imports only modules above it."""

import ast
import re
from pathlib import Path

import lstmq

PACKAGE = Path(lstmq.__file__).parent
# From the top down, as CONTRIBUTING.md's "Architecture" has it.
TABLE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
ORDER = re.findall(r"^\| `(\w+)(?:\.py`|/`, `__main__)", TABLE, flags=re.MULTILINE)
CLI_SHARED = {"cli.common", "cli.processes"}


def imports(path):
    """Return the names of the modules of lstmq that a file imports from, without the package's name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = [f"{node.module}.{alias.name}" for node in froms if node.module == "lstmq" for alias in node.names]
    names += [node.module for node in froms if node.module.startswith("lstmq.")]
    return {name.removeprefix("lstmq.") for name in names} - {"__version__"}


def test_every_module_has_its_place():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*ORDER, "__init__", "__main__"} - {"cli"}


def test_a_module_imports_only_modules_above_it():
    seen = 0
    for place, name in enumerate(ORDER[:-1]):
        found = imports(PACKAGE / f"{name}.py")
        seen += len(found)
        assert found <= set(ORDER[:place]), name
    assert seen > len(ORDER)  # so that this test cannot pass by seeing nothing


def test_subcommands_do_not_import_one_another():
    for path in (PACKAGE / "cli").glob("*.py"):
        inside = {name for name in imports(path) if name.startswith("cli.")}
        assert path.name == "__init__.py" or inside <= CLI_SHARED
