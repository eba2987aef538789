"""Summaries of made-up runs, and the figures that a test draws."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from lstmq.report.summaries import summarize_run
from runs import MACHINE, make_environment, make_run


@pytest.fixture(scope="session")
def summarize():
    """Return a function that makes up a run and returns the summary of its only scheme, int8.

    It takes a version of torch, the fields of the machine, the fields of the run, and everything else that
    ``runs.make_environment`` takes.
    """

    def summarize(torch="2.13.0", machine=(), run=(), **environment):
        here = make_environment(machine=replace(MACHINE, torch=torch, **dict(machine)), **environment)
        [summary] = summarize_run(make_run(here, **dict(run)))
        return summary

    return summarize


@pytest.fixture
def saved_figures(monkeypatch):
    """The matplotlib figures that the test saves, in order."""
    figures, savefig = [], Figure.savefig

    def record(figure, *arguments, **options):
        figures.append(figure)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", record)
    return figures
