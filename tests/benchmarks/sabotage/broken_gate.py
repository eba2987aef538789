"""A pytest plugin that breaks the gate: ``pytest -p broken_gate --sabotage '{"fake_clock": 0.01}' benchmarks``."""

import signal
from pathlib import Path

import pytest
from sabotage import Sabotage

from lstmq.gate import processes

WORKER = Path(__file__).with_name("fork_worker.py")


def pytest_addoption(parser):
    parser.addoption("--sabotage", type=Sabotage.from_json, default=Sabotage())


@pytest.hookimpl(tryfirst=True)  # before the plugin of the gate lists the schemes
def pytest_load_initial_conftests(early_config):
    sabotage = early_config.known_args_namespace.sabotage
    sabotage.break_process()
    processes.WORKER = (str(WORKER), sabotage.to_json())
    if sabotage.kill == "session":  # Python ignores SIGINT if the process that started it does
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    dropped = config.option.sabotage.dropped_cases
    items[:] = [item for item in items if item.name not in dropped]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    if item.name in item.config.option.sabotage.failing_cases:
        item.funcargs["gate_judge"] = lambda model: 1 / 0
