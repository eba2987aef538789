"""Run sessions of the gate on unchanged and on slowed code, idle and loaded, and write down what they measured.

``python benchmarks/study/run.py`` runs until as many of each kind and condition as it says are in the file; it may be
interrupted, and goes on where it stopped. ``results.py`` beside it judges them and writes the page of results.

Idle, sessions run one after the other, with nothing beside them. Loaded, every processor has a session of its own that
stays on it, all at once: each is the others' load. A processor with no session left evaluates in float32 until all end.
"""

import gzip
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import click
import torch

from lstmq import evaluate
from lstmq.gate.processes import HERE, THERE, Environment
from lstmq.gate.session import QUANTIZED_PER_SLICE, Plan, measure
from lstmq.workload.loading import load_workload

FOLDER = Path(__file__).parent
SESSIONS = FOLDER / "sessions.jsonl.gz"
PLAN = Plan(schemes=("int8",), more=QUANTIZED_PER_SLICE * Plan.pairs)  # what `--gate-against PYTHON --scheme int8` does
SLOWDOWNS = (0, 2, 5, 10)  # percent by which int8 is slower here than there


def run(slowdown, condition):
    """Run one session and return what is kept of it."""
    workload, started, load = load_workload(), time.time(), os.getloadavg()[0]
    here, there = Environment.here(), replace(Environment.here(), name=THERE)
    if slowdown:
        here = replace(here, command=(sys.executable, "-P", str(FOLDER / "slowed.py"), str(slowdown / 100)))
    recording = measure(workload, replace(PLAN, seed=random.randrange(2**32)), (here, there))
    told = [recording.environments[name] for name in (HERE, THERE)]
    return {
        "slowdown": slowdown,
        "condition": condition,
        "processors": sorted(os.sched_getaffinity(0)),
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "took": round(time.time() - started, 1),
        "load": load,
        "machine": told[0]["machine"],
        "plan": recording.plan,
        "sizes": {HERE: told[0]["sizes"]["int8"]["total"], THERE: told[1]["sizes"]["int8"]["total"]},
        "same_predictions": told[0]["fidelity"] == told[1]["fidelity"],
        "seconds": microseconds(recording.seconds),
        "wall": microseconds(recording.wall),
    }


def microseconds(times):
    return {
        name: {arm: [[t and round(1e6 * t) for t in worker] for worker in workers] for arm, workers in arms.items()}
        for name, arms in times.items()
    }


def read(path):
    """Return the sessions of a file, in the order in which they ended; none if there is no such file."""
    with gzip.open(path, "rt", encoding="utf-8") if path.exists() else nullcontext([]) as lines:
        return [json.loads(line) for line in lines]


def be_load():
    """Keep the processor, and its way to memory, fully busy: evaluate in float32, for ever."""
    torch.set_num_threads(1)
    subject = load_workload().speed
    while True:
        evaluate(subject.model, subject.stream, 25)


def run_all(todo, condition, out):
    """Run sessions with these slowdowns, in random order, each in a process of its own."""
    random.shuffle(todo)
    lock, loads, errors = threading.Lock(), [], []

    def lane(processor):
        command = [sys.executable, __file__, "--condition", condition]
        command += [] if processor is None else ["--processor", str(processor)]
        while True:
            with lock:
                if not todo:
                    break
                slowdown = todo.pop()
            child = subprocess.run([*command, "--one", str(slowdown)], stdout=subprocess.PIPE, check=False)
            if child.returncode:
                todo.clear()  # the other lanes would go on without their load
                errors.append(f"a session ended with exit code {child.returncode}")
                break
            session = json.loads(child.stdout)
            with lock, gzip.open(out, "at", encoding="utf-8") as file:
                file.write(json.dumps(session, separators=(",", ":")) + "\n")
            took = f"{session['date']} {condition}, {slowdown} % slower: {session['took']} s"
            click.echo(f"{took}, {len(todo)} not begun")
        if processor is not None:
            loads.append(subprocess.Popen([*command, "--load"]))

    processors = sorted(os.sched_getaffinity(0)) if condition == "loaded" else [None]
    lanes = [threading.Thread(target=lane, args=[processor]) for processor in processors]
    for each in lanes:
        each.start()
    for each in lanes:
        each.join()
    for load in loads:
        load.kill()
    if errors:
        sys.exit(errors[0])


@click.command()
@click.option("--unchanged", default=60, show_default=True, help="Sessions of unchanged code in each condition.")
@click.option("--slowed", default=20, show_default=True, help="Sessions of each slowdown in each condition.")
@click.option("--condition", type=click.Choice(["idle", "loaded", "both"]), default="both", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=SESSIONS)
@click.option("--processor", type=int, hidden=True)
@click.option("--one", type=int, hidden=True, help="Run a session with this slowdown and print it.")
@click.option("--load", is_flag=True, hidden=True, help="Be the load.")
def main(unchanged, slowed, condition, out, processor, one, load):
    if processor is not None:
        os.sched_setaffinity(0, {processor})
    if load:
        be_load()
    if one is not None:
        click.echo(json.dumps(run(one, condition)))
        return
    done = Counter((session["condition"], session["slowdown"]) for session in read(out))
    for each in ("idle", "loaded") if condition == "both" else (condition,):
        todo = [slow for slow in SLOWDOWNS for _ in range((slowed if slow else unchanged) - done[each, slow])]
        run_all(todo, each, out)


if __name__ == "__main__":
    main()
