"""Runs sessions of the gate on unchanged and on slowed code, idle and loaded, and saves what they measured.

``python benchmarks/study/run.py`` runs until the file has as many sessions of each kind as the options say. You can
interrupt it, and it continues where it stopped. ``results.py`` judges the sessions and writes the page of results.

Idle: sessions run one after the other, with nothing beside them. Loaded: each processor runs a session of its own, all
at the same time, so each session is a load for the others. A processor without further sessions evaluates the float32
model until all others end.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import click
import torch
from sessions import SESSIONS, Session, append_session, read_sessions

from lstmq import evaluate, load_workload
from lstmq.gate import QUANTIZED_PER_SLICE, Environment, Plan, measure

SLOWED = Path(__file__).with_name("slowed.py")
# The plan of `pytest benchmarks --gate-against PYTHON --gate-scheme int8`.
PLAN = Plan(schemes=("int8",), quantized_slices=QUANTIZED_PER_SLICE * Plan.slices)
SLOWDOWNS = (0, 2, 5, 10)  # percent by which int8 is slower here than there


def run_session(slowdown: int, condition: str) -> Session:
    """Run one session and return what the file keeps of it."""
    workload, started, load = load_workload(), time.time(), os.getloadavg()[0]
    here, there = Environment.here(), replace(Environment.here(), name="there")
    if slowdown:
        here = replace(here, command=(sys.executable, "-P", str(SLOWED), str(slowdown / 100)))
    recording = measure(workload, replace(PLAN, seed=random.randrange(2**32)), (here, there))
    environments = recording.environments
    return {
        "slowdown": slowdown,
        "condition": condition,
        "processors": sorted(os.sched_getaffinity(0)),
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "took": round(time.time() - started, 1),
        "load": load,
        "machine": asdict(recording.here.machine),
        "plan": asdict(recording.plan),
        "sizes": {name: environment.sizes["int8"].total for name, environment in environments.items()},
        "same_predictions": recording.here.fidelity == recording.there.fidelity,
        "seconds": {name: microseconds(environment.seconds) for name, environment in environments.items()},
        "wall": {name: microseconds(environment.wall) for name, environment in environments.items()},
    }


def microseconds(seconds: Mapping[str, list[list[float | None]]]) -> dict[str, list[list[int | None]]]:
    """Return seconds by model as whole microseconds."""
    return {
        model: [[t and round(1e6 * t) for t in process] for process in processes]
        for model, processes in seconds.items()
    }


def run_load() -> None:
    """Keep a processor and its memory busy: evaluate in float32 until this process is killed."""
    torch.set_num_threads(1)
    subject = load_workload().speed
    while True:
        evaluate(subject.model, subject.stream, 25)


def run_sessions(slowdowns: list[int], condition: str, out: Path) -> None:
    """Run a session for each slowdown, in random order, each in its own process."""
    random.shuffle(slowdowns)
    lock, loads, errors = threading.Lock(), [], []

    def run_lane(processor: int | None) -> None:
        command = [sys.executable, __file__, "--condition", condition]
        command += [] if processor is None else ["--processor", str(processor)]
        while True:
            with lock:
                if not slowdowns:
                    break
                slowdown = slowdowns.pop()
            process = subprocess.run([*command, "--one", str(slowdown)], stdout=subprocess.PIPE, check=False)
            if process.returncode:
                slowdowns.clear()  # without this lane, the other lanes would have less load
                errors.append(f"a session ended with exit code {process.returncode}")
                break
            session = json.loads(process.stdout)
            with lock:
                append_session(session, out)
            duration = f"{session['date']} {condition}, {slowdown} % slower: {session['took']} s"
            click.echo(f"{duration}, {len(slowdowns)} sessions left to start")
        if processor is not None:
            loads.append(subprocess.Popen([*command, "--load"]))

    processors = sorted(os.sched_getaffinity(0)) if condition == "loaded" else [None]
    lanes = [threading.Thread(target=run_lane, args=[processor]) for processor in processors]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    for load in loads:
        load.kill()
    if errors:
        sys.exit(errors[0])


@click.command()
@click.option("--unchanged", default=60, show_default=True, help="Sessions of unchanged code in each condition.")
@click.option("--slowed", default=20, show_default=True, help="Sessions of each slowdown in each condition.")
@click.option("--condition", type=click.Choice(["idle", "loaded", "both"]), default="both", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=SESSIONS, help="File to add them to.")
@click.option("--processor", type=int, hidden=True, help="Stay on this processor.")
@click.option("--one", "slowdown", type=int, hidden=True, help="Run one session with this slowdown and print it.")
@click.option("--load", is_flag=True, hidden=True, help="Keep the processor busy.")
def main(
    *, unchanged: int, slowed: int, condition: str, out: Path, processor: int | None, slowdown: int | None, load: bool
) -> None:
    """Run the sessions that the file does not have yet."""
    if processor is not None:
        os.sched_setaffinity(0, {processor})
    if load:
        run_load()
    if slowdown is not None:
        click.echo(json.dumps(run_session(slowdown, condition)))
        return
    done = Counter((session["condition"], session["slowdown"]) for session in read_sessions(out))
    for name in ("idle", "loaded") if condition == "both" else (condition,):
        targets = {percent: slowed if percent else unchanged for percent in SLOWDOWNS}
        missing = [percent for percent, target in targets.items() for _ in range(target - done[name, percent])]
        run_sessions(missing, name, out)


if __name__ == "__main__":
    main()
