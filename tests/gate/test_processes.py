"""Laws of worker processes: a worker that fails is an error of one line, and no process outlives its block."""

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import lstmq
from lstmq.gate.processes import WORKER, Environment, SessionError
from lstmq.gate.protocol import PROTOCOL, Hello, Timed
from lstmq.gate.recording import Plan
from lstmq.gate.session import measure
from lstmq.workload.subject import Workload
from runs import make_subject

WORKLOAD = Workload(speed=make_subject(), loss=make_subject(12, 50, 1))
PLAN = Plan(schemes=("int8",), looks=(1,), blocks=1, slices=1, float32_slices=1, tokens=10)

# Environments.


def test_worker_command_does_not_import_from_the_current_folder():
    assert WORKER == ("-P", "-m", "lstmq.gate.worker")


@pytest.mark.parametrize(("before", "after"), [(None, []), ("/one", ["/one"]), ("", [])])
def test_here_is_this_interpreter_with_the_running_lstmq(monkeypatch, before, after):
    """An empty entry of PYTHONPATH would be the current folder, where another torch or json may lie."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before)
    here = Environment.here()
    assert (here.name, here.command) == ("here", (sys.executable, *WORKER))
    folder = str(Path(lstmq.__file__).parents[1])
    assert here.variables["PYTHONPATH"].split(os.pathsep) == [folder, *after]


def test_there_is_another_interpreter_with_nothing_from_this_one(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/one")
    monkeypatch.setenv("PYTHONHOME", "/two")
    there = Environment.there("python")
    assert (there.name, there.command) == ("there", ("python", *WORKER))
    assert there.variables.keys() == os.environ.keys() - {"PYTHONPATH", "PYTHONHOME"}


# Workers that fail.

HELLO = json.dumps(msgspec.to_builtins(Hello(protocol=PROTOCOL, lstmq=lstmq.__version__, location="/lstmq")))
HANG = "time.sleep(100)"


def run_program(program, **changes):
    """Return an environment whose workers run a Python program."""
    command = (sys.executable, "-S", "-P", "-c", f"import os, sys, time\n{program}")
    return replace(Environment(name="there", command=command, variables=os.environ), **changes)


def print_lines(*lines, then="", **changes):
    """Return an environment whose workers print lines and then run a program."""
    return run_program(f"for line in {lines!r}: print(line, flush=True)\n{then}", **changes)


FAILURES = {
    "dies": (run_program("sys.exit('boom')"), "ended, exit code 1: boom"),
    "dies of a signal": (run_program("os.kill(os.getpid(), 9)"), "ended, exit code -9"),
    "has no lstmq": (
        Environment(name="there", command=(sys.executable, "-S", *WORKER), variables={}),
        "No module named 'lstmq'",
    ),
    "dies after hello": (print_lines(HELLO, then="sys.exit('boom')"), "ended, exit code 1: boom"),
    "closes its input": (print_lines(HELLO, then="os.close(0); sys.exit('boom')"), "ended, exit code 1: boom"),
    "ends within a line": (run_program("sys.stdout.write('{'); sys.exit()"), "ended, exit code 0"),
    "prints text": (print_lines("welcome", then=HANG), "wrote 'welcome'"),
    "prints much text": (print_lines("welcome" * 10_000, then=HANG), "wrote 'welcomewelcome"),
    "prints an empty line": (print_lines("", then=HANG), "wrote ''"),
    "prints a number": (print_lines("5", then=HANG), "wrote '5'"),
    "prints null": (print_lines("null", then=HANG), "wrote 'null'"),
    "prints a list": (print_lines("[1]", then=HANG), "wrote '[1]'"),
    "prints a string": (print_lines('"text"', then=HANG), "wrote '\"text\"'"),
    "prints bytes that are not UTF-8": (run_program(rf"os.write(1, b'\xff\n'); {HANG}"), "wrote "),
    "speaks another protocol": (
        print_lines(json.dumps({"protocol": 99, "lstmq": "9.9.9"}), then=HANG),
        f"speaks version 99 of the protocol (lstmq 9.9.9), expected version {PROTOCOL} (lstmq {lstmq.__version__})",
    ),
    "says an incomplete hello": (print_lines(json.dumps({"protocol": PROTOCOL}), then=HANG), "gave a wrong answer"),
    "answers with a wrong type": (print_lines(HELLO, '{"cpu": "much"}', then=HANG), "gave a wrong answer"),
    "refuses in two lines": (print_lines(HELLO, json.dumps({"error": "one\ntwo"}), then=HANG), "there: one two"),
    "hangs": (run_program(HANG, timeout=0.5), "did not answer for "),
    "hangs after hello": (print_lines(HELLO, then=HANG, timeout=0.5), "did not answer for "),
    "does not exist": (Environment.there("/no/such/python"), "cannot start /no/such/python: No such file"),
    "is not executable": (Environment.there(lstmq.__file__), "cannot start "),
}


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "message"), FAILURES.values(), ids=FAILURES)
def test_worker_that_fails_is_an_error_of_one_line_that_names_it(environment, message, started):
    with pytest.raises(SessionError) as caught, environment.start() as worker:
        worker.ask(Timed, "time", model="int8", first=0, tokens=1)
    assert message in str(caught.value)
    assert environment.name in str(caught.value) or environment.command[0] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


@pytest.mark.slow
def test_worker_that_stops_reading_a_long_request_is_killed(started):
    """A pipe cannot hold the request, so writing it waits for the worker."""
    errors = []

    def send():
        try:
            with print_lines(HELLO, then=HANG, timeout=0.5).start() as worker:
                worker.send("load", words=[0] * 100_000)
        except SessionError as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join(timeout=5)
    for process in started:
        process.kill()
    thread.join()
    [error] = errors
    assert "did not answer for " in str(error)


# Sessions with such workers.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dies", "does not exist"])
def test_worker_that_fails_ends_the_worker_of_the_other_environment(name, started):
    """Both start before either gets a request."""
    other = print_lines(HELLO, then=HANG, name="here")
    with pytest.raises(SessionError):
        measure(WORKLOAD, PLAN, [other, FAILURES[name][0]], lambda recording: {})


@pytest.mark.slow
def test_session_ends_in_one_line_if_a_real_worker_refuses(started):
    with pytest.raises(SessionError, match=r"^the worker here: no engine 'abacus' in torch .*$"):
        measure(WORKLOAD, replace(PLAN, engine="abacus"), [Environment.here()], lambda recording: {})
    assert len(started) == 1
