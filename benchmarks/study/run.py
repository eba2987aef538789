"""Runs sessions of the gate, idle and loaded, with the commands that a user types, and saves what they measured.

``python benchmarks/study/run.py --apart PYTHON`` runs until the file has as many sessions of each kind as :data:`KINDS`
asks for. You can interrupt it, and it continues where it stopped. ``results.py`` writes the page of results.

Each session says how much processor time everything else used meanwhile. To load the machine, start one ``run.py
--processor N`` for each processor: then a session has one processor, and other sessions keep the others busy.
"""

import json
import math
import os
import random
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from sessions import CONDITIONS, SESSIONS, Session, append_session, condition_of, read_sessions

from lstmq.gate import KEY
from lstmq.gate.processes import WORKER

CHECKOUT = Path(__file__).parents[2]
SABOTAGE = CHECKOUT / "tests" / "benchmarks" / "sabotage"
INT8_ALONE = ("--gate-scheme", "int8")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of session.

    Attributes:
        sessions: number of sessions in each condition.
        options: of pytest.
        other: what to compare with: nothing, the ``same`` environment, one that is installed ``apart``, or a saved
            ``run`` of the kind ``default``.
        slower: share by which int8 is slower in this environment.
    """

    sessions: int
    options: tuple[str, ...] = ()
    other: str = ""
    slower: float = 0.0


KINDS: Mapping[str, Kind] = {
    "default": Kind(sessions=50),
    "compare": Kind(sessions=10, other="run"),
    "compare, 20 % slower": Kind(sessions=30, other="run", slower=0.2),
    "against": Kind(sessions=20, other="same"),
    "against, apart": Kind(sessions=10, other="apart"),
    "int8": Kind(sessions=50, other="same", options=INT8_ALONE),
    "int8, apart": Kind(sessions=10, other="apart", options=INT8_ALONE),
    "int8, 5 % slower": Kind(sessions=30, other="same", options=INT8_ALONE, slower=0.05),
    "int8, 2 % slower": Kind(sessions=20, other="same", options=(*INT8_ALONE, "--gate-tolerance=1%"), slower=0.02),
    "int8, 3 % slower": Kind(sessions=10, other="same", options=(*INT8_ALONE, "--gate-tolerance=1%"), slower=0.03),
}


def run_session(name: str, others: Mapping[str, str], baselines: Path) -> Session:
    """Run one session, and return what the file keeps of it.

    Args:
        name: the kind.
        others: Pythons to compare with.
        baselines: folder of saved runs. A default session adds its own.
    """
    kind = KINDS[name]
    baseline = ""
    started, busy = time.time(), time_of_others()
    with TemporaryDirectory() as folder:
        saved = Path(folder, "run.json")
        command = [sys.executable, "-P", "-m", "pytest", "benchmarks", "-p", "no:cacheprovider", *kind.options]
        command += ["--gate-seed", str(random.randrange(2**32)), "--benchmark-json", str(saved)]
        if kind.other == "run":
            baseline = random.choice(sorted(baselines.iterdir())).name
            command += [f"--benchmark-compare={baselines / baseline}"]
        elif kind.other:
            command += ["--gate-against", write_python(Path(folder, "python"), others[kind.other])]
        if kind.slower:
            command += ["-p", "broken_gate", "--sabotage", json.dumps({"int8_slower": kind.slower})]
        variables = os.environ | ({"PYTHONPATH": str(SABOTAGE)} if kind.slower else {})
        done = subprocess.run(command, cwd=CHECKOUT, env=variables, capture_output=True, text=True, check=False)
        if not saved.exists():
            raise click.ClickException(
                f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        run = json.loads(saved.read_text(encoding="utf-8"))[KEY]
        if name == "default" and done.returncode == 0:
            shutil.copy(saved, baselines / f"{int(started)}.json")
    took = time.time() - started
    return {
        "kind": name,
        "baseline": baseline,
        "exit_code": done.returncode,
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "took": round(took, 1),
        "others": round((time_of_others() - busy) / took, 3),
        "run": shorten(run),
    }


def time_of_others() -> float:
    """Return the seconds for which processors were busy, without those of the sessions that ended."""
    processors = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")[0]
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, processors.split()[1:])
    sessions = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return busy - sessions.ru_utime - sessions.ru_stime


def write_python(path: Path, python: str) -> str:
    """Write a script that runs a worker of an environment, whatever the gate asks it to run, and return its path.

    The plugin that slows int8 down would slow down both environments otherwise.
    """
    path.write_text(f"#!/bin/sh\nexec {shlex.quote(python)} {shlex.join(WORKER)}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def shorten(run: dict[str, Any]) -> dict[str, Any]:
    """Drop what the results do not need from a saved run, and round its seconds to microseconds."""
    for environment in (run["recording"]["here"], run["recording"]["there"]):
        if environment:
            environment["wall"], environment["location"] = {}, ""
            for processes in environment["seconds"].values():
                processes[:] = [[time and round(time, 6) for time in process] for process in processes]
            for fidelity in environment["fidelity"].values():
                tokens = sum(fidelity["tokens"])
                fidelity["losses"] = [math.fsum(map(mul, fidelity["losses"], fidelity["tokens"])) / tokens]
                fidelity["tokens"] = [tokens]
    run["recording"]["slices"] = [[] for _ in run["recording"]["slices"]]
    return run


@click.command()
@click.option("--apart", metavar="PYTHON", required=True, help="The same versions, installed in another folder.")
@click.option("--processor", type=int, help="Stay on this processor, and count the sessions as loaded.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=SESSIONS, help="File to add them to.")
def main(*, apart: str, processor: int | None, out: Path) -> None:
    """Run the sessions that the file does not have yet, in random order."""
    if processor is not None:
        os.sched_setaffinity(0, {processor})
    condition = CONDITIONS[processor is not None]
    others = {"same": sys.executable, "apart": apart}
    baselines = out.with_name("baselines")
    baselines.mkdir(exist_ok=True)
    while missing := missing_sessions(read_sessions(out), condition):
        name = random.choice(missing) if any(baselines.iterdir()) else "default"
        session = run_session(name, others, baselines)
        append_session(session, out)
        text = f"{session['date']} {condition_of(session)}, {name}: exit code {session['exit_code']}"
        click.echo(f"{text}, {session['took']} s, {len(missing) - 1} sessions left")


def missing_sessions(sessions: Sequence[Session], condition: str) -> list[str]:
    """Return the kinds of the sessions that are still to run in a condition, each as often as it is to run."""
    done = Counter(session["kind"] for session in sessions if condition_of(session) == condition)
    return [name for name, kind in KINDS.items() for _ in range(kind.sessions - done[name])]


if __name__ == "__main__":
    main()
