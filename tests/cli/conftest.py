"""Fixtures for tests that run the command."""

import pytest
from click.testing import CliRunner

from lstmq.cli import main
from lstmq.model.checkpoint import save_checkpoint


@pytest.fixture(scope="session")
def run():
    """Return a function that runs the command in this process, and returns click's result."""
    return lambda *arguments: CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def model_files(corpus_folder, tmp_path, model):
    """The options that name a small corpus and a checkpoint of its words."""
    save_checkpoint(model, tmp_path / "model.safetensors")
    return ["--corpus", corpus_folder, "--checkpoint", tmp_path / "model.safetensors"]
