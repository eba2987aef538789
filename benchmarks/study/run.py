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
from lstmq.gate import AGAINST
from lstmq.session import HERE, THERE, Environment, Plan, measure
from lstmq.workload import load_workload

FOLDER = Path(__file__).parent
SLOWED = tuple(f"int8 slowed by {percent} %" for percent in (2, 5, 10))


def environments(kind):
    """Return this environment, and the same again; slowed, its workers hold a scheme for every slowdown."""
    here, there = Environment.here(), replace(Environment.here(), name=THERE)
    if kind == "slowed":
        there = replace(there, command=(sys.executable, "-P", str(FOLDER / "slowed.py")))
    return here, there


def microseconds(times):
    return {
        name: {arm: [[t and round(1e6 * t) for t in worker] for worker in workers] for arm, workers in arms.items()}
        for name, arms in times.items()
    }


def run(kind, condition, workload, seed):
    """Run one session and return what is kept of it."""
    plan = Plan(schemes=("int8", *SLOWED) if kind == "slowed" else ("int8",), seed=seed, **AGAINST)
    started, load = time.time(), os.getloadavg()[0]
    recording = measure(workload, plan, environments(kind))
    machine = recording.environments[HERE]["machine"]
    return {
        "kind": kind,
        "condition": condition,
        "seed": seed,
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "took": round(time.time() - started, 1),
        "load": load,
        "machine": machine,
        "plan": recording.plan,
        "slices": recording.slices,
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
@click.option("--sessions", default=60, help="Unchanged sessions idle, and as many loaded.")
@click.option("--slowed", default=20, help="Slowed sessions idle, and as many loaded; each holds every slowdown.")
@click.option("--condition", type=click.Choice(["idle", "loaded", "both"]), default="both")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=FOLDER / "sessions.jsonl")
@click.option("--load", is_flag=True, hidden=True, help="Be the load.")
def main(sessions, slowed, condition, out, load):
    if load:
        be_load()
    wanted = Counter(
        {(each, kind): count for each in ("idle", "loaded") for kind, count in (("same", sessions), ("slowed", slowed))}
    )
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    wanted.subtract((line["condition"], line["kind"]) for line in map(json.loads, lines))
    workload = load_workload(tokens=5000)
    for each in ("loaded", "idle") if condition == "both" else (condition,):
        todo = [kind for kind in ("same", "slowed") for _ in range(wanted[each, kind])]
        random.shuffle(todo)
        busy = subprocess.Popen([sys.executable, __file__, "--load"]) if each == "loaded" and todo else None
        try:
            time.sleep(10 if busy else 0)  # the load loads its model first
            for number, kind in enumerate(todo):
                session = run(kind, each, workload, random.randrange(2**32))
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(session, separators=(",", ":")) + "\n")
                click.echo(f"{session['date']} {each} {kind}: {number + 1} of {len(todo)}, {session['took']} s")
        finally:
            if busy:
                busy.kill()


if __name__ == "__main__":
    main()
