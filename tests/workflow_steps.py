"""Runs the steps of a GitHub workflow or action on this machine: :func:`run_steps`.

``run`` steps run in bash as on a runner. For each action that steps use, the caller gives a stand-in. An action without
one, an expression or a key that this module does not know, is an error: no step is skipped silently.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

STEP_KEYS = {"uses", "with", "run", "name", "id", "if", "env", "shell", "working-directory"}
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")
TIMEOUT = 300  # seconds


@dataclass(kw_only=True)
class Runner:
    """A stand-in for a runner.

    Attributes:
        workspace: the folder in which steps start.
        temp: for files of the runner.
        variables: the environment of all steps.
        stand_ins: by name of an action, a function of its inputs.
        contexts: what expressions see, by name, such as ``github.event_name``.
        outcomes: of all steps, in order: the name, and ``success``, ``failure`` or ``skipped``.
        output: what the steps printed.
    """

    workspace: Path
    temp: Path
    variables: Mapping[str, str]
    stand_ins: Mapping[str, Callable[[Mapping[str, str]], object]]
    contexts: dict[str, str] = field(default_factory=dict)
    outcomes: list[tuple[str, str]] = field(default_factory=list)
    output: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether a step failed."""
        return any(outcome == "failure" for _, outcome in self.outcomes)

    @property
    def summary(self) -> str:
        """What the steps wrote into the summary of their job."""
        return (self.temp / "summary.md").read_text(encoding="utf-8")

    def evaluate(self, expression: str) -> str:
        """Return the value of an expression: a comparison, a choice with ``&&`` and ``||``, a name or a string."""
        text = expression.strip()
        for operator in ("||", "&&", "!=", "=="):
            left, found, right = text.partition(operator)
            if found:
                values = self.evaluate(left), self.evaluate(right)
                if operator in ("||", "&&"):
                    return values[0] if bool(values[0]) == (operator == "||") else values[1]
                return "true" if (values[0] == values[1]) == (operator == "==") else ""
        if re.fullmatch(r"'[^']*'", text):
            return text[1:-1]
        functions = {"always()": "true", "success()": "" if self.has_failed else "true"}
        return functions[text] if text in functions else self.contexts[text]  # a KeyError if unknown

    def expand(self, text: object) -> str:
        """Return a text with the values of its expressions."""
        return EXPRESSION.sub(lambda match: self.evaluate(match[1]), str(text))


def load(path: Path) -> dict[str, Any]:
    """Return a workflow or an action."""
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def run_steps(runner: Runner, steps: Sequence[Mapping[str, Any]], variables: Mapping[str, object]) -> None:
    """Run steps in order. After a failure, only those run whose condition says ``always()``.

    Args:
        runner: what runs them, and notes what became of them.
        steps: from the file.
        variables: the ``env`` of the workflow and the job.
    """
    runner.temp.mkdir(exist_ok=True)
    (runner.temp / "summary.md").touch()
    for number, step in enumerate(steps):
        assert step.keys() <= STEP_KEYS, step
        name = step.get("name") or step.get("uses", "").partition("@")[0] or step["run"].strip().splitlines()[0]
        condition = str(step.get("if", "success()"))
        is_due = runner.evaluate(EXPRESSION.sub(r"\1", condition))
        if not is_due or (runner.has_failed and "always()" not in condition):
            outcome = "skipped"
        elif "uses" in step:
            action = step["uses"].partition("@")[0]
            runner.stand_ins[action]({key: runner.expand(text) for key, text in step.get("with", {}).items()})
            outcome = "success"
        else:
            environment = {key: runner.expand(text) for key, text in {**variables, **step.get("env", {})}.items()}
            outcome = _run_in_bash(runner, number, step, environment)
        runner.outcomes.append((name, outcome))


def _run_in_bash(runner: Runner, number: int, step: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Run a ``run`` step, and return its outcome."""
    assert step.get("shell", "bash") == "bash"
    script, outputs = runner.temp / f"step{number}.sh", runner.temp / f"outputs{number}"
    script.write_text(runner.expand(step["run"]), encoding="utf-8")
    outputs.touch()
    files = {"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(runner.temp / "summary.md")}
    process = subprocess.run(
        [shutil.which("bash") or "bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=runner.workspace / step.get("working-directory", "."),
        env={**os.environ, **runner.variables, **environment, **files},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    runner.output += process.stdout
    for line in outputs.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        runner.contexts[f"steps.{step['id']}.outputs.{name}"] = value
    return "failure" if process.returncode else "success"
