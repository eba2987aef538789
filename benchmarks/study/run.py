"""Run sessions of the gate on unchanged and on slowed code, idle and loaded, and write down what they measured.

``python benchmarks/study/run.py`` runs until as many of each kind and condition as it says are in the file; it may be
interrupted, and goes on where it stopped. ``results.py`` beside it judges them and writes the page of results.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import click
import torch

from lstmq import evaluate
from lstmq.environments import HERE, THERE, Environment
from lstmq.session import Plan, measure
from lstmq.workload import load_workload

FOLDER = Path(__file__).parent
PLAN = Plan(schemes=("int8",), more=60)  # what `--gate-against PYTHON --scheme int8` does
SLOWDOWNS = (0, 2, 5, 10)  # percent by which int8 is slower here than there


def environments(slowdown):
    """Return this environment and the same again; workers of the first are slowed."""
    here, there = Environment.here(), replace(Environment.here(), name=THERE)
    if slowdown:
        here = replace(here, command=(sys.executable, "-P", str(FOLDER / "slowed.py"), str(slowdown / 100)))
    return here, there


def microseconds(times):
    return {
        name: {arm: [[t and round(1e6 * t) for t in worker] for worker in workers] for arm, workers in arms.items()}
        for name, arms in times.items()
    }


def run(slowdown, condition, workload, seed):
    """Run one session and return what is kept of it."""
    started, load = time.time(), os.getloadavg()[0]
    recording = measure(workload, replace(PLAN, seed=seed), environments(slowdown))
    here, there = (recording.environments[name] for name in (HERE, THERE))
    return {
        "slowdown": slowdown,
        "condition": condition,
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "took": round(time.time() - started, 1),
        "load": load,
        "machine": here["machine"],
        "plan": recording.plan,
        "sizes": {HERE: here["sizes"]["int8"]["total"], THERE: there["sizes"]["int8"]["total"]},
        "same_predictions": here["fidelity"] == there["fidelity"],
        "seconds": microseconds(recording.seconds),
        "wall": microseconds(recording.wall),
    }


def be_load():
    """Keep one processor, and its way to memory, fully busy: evaluate in float32, for ever."""
    torch.set_num_threads(1)
    subject = load_workload().speed
    while True:
        evaluate(subject.model, subject.source, 25)


@click.command()
@click.option("--unchanged", default=60, show_default=True, help="Sessions of unchanged code in each condition.")
@click.option("--slowed", default=20, show_default=True, help="Sessions of each slowdown in each condition.")
@click.option("--condition", type=click.Choice(["idle", "loaded", "both"]), default="both", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=FOLDER / "sessions.jsonl")
@click.option("--cpu", type=int, help="Stay on this processor: two studies may then load one another.")
@click.option("--load", is_flag=True, hidden=True, help="Be the load.")
def main(unchanged, slowed, condition, out, cpu, load):
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    if load:
        be_load()
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    done = Counter((session["condition"], session["slowdown"]) for session in map(json.loads, lines))
    workload = load_workload()
    for each in ("idle", "loaded") if condition == "both" else (condition,):
        todo = [slow for slow in SLOWDOWNS for _ in range((slowed if slow else unchanged) - done[each, slow])]
        random.shuffle(todo)
        busy = subprocess.Popen([sys.executable, __file__, "--load"]) if each == "loaded" and todo else None
        try:
            time.sleep(10 if busy else 0)  # the load loads its model first
            for number, slowdown in enumerate(todo):
                session = run(slowdown, each, workload, random.randrange(2**32))
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(session, separators=(",", ":")) + "\n")
                took = f"{session['date']} {each}, {slowdown} % slower: {session['took']} s"
                click.echo(f"{took}, {number + 1} of {len(todo)}")
        finally:
            if busy:
                busy.kill()


if __name__ == "__main__":
    main()
