"""Laws of ``lstmq train``.

1. Killed or interrupted anywhere, resumed, alone or in company, it ends where an uncut run ends.
2. What is written is whole, and the best so far.
3. What cannot go on is one line and exit code 2.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count

import pytest
import torch
from click.testing import CliRunner

from lstmq import Corpus, ModelConfig, batchify, evaluate
from lstmq.cli import main
from lstmq.cli.interrupts import interrupts
from lstmq.cli.train import Outputs
from lstmq.model import checkpoint

TINY = "--ninp 4 --nhid 4 --nlayers 1 --bptt 10 --batch-size 4 --threads 1 --lr 2".split()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    source = random.Random(0)
    for split, lines in (("train", 400), ("valid", 20), ("test", 20)):
        rows = (" ".join(f"w{source.randrange(9)}" for _ in range(9)) for _ in range(lines))
        (folder / f"{split}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def train(text, out, *more):
    return CliRunner().invoke(main, ["train", "--corpus", str(text), "--out", str(out), *TINY, *map(str, more)])


def command_line(text, out, *more):
    files = ["--corpus", str(text), "--out", str(out)]
    return [sys.executable, "-m", "lstmq", "train", *files, *TINY, *map(str, more)]


def same(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def losses_of(log):
    """Return a log's lines without what a clock said."""
    return [re.sub(r', "tokens_per_second": [\d.]+', "", line) for line in log.read_text().splitlines()]


def test_train_writes_the_best_model_a_line_an_epoch_a_log_and_a_plot(text, tmp_path):
    out, log, drawing = tmp_path / "m.safetensors", tmp_path / "m.jsonl", tmp_path / "m.png"
    result = train(text, out, "--epochs", 2, "--log", log, "--plot", drawing)
    assert result.exit_code == 0, result.output
    assert [line[:9] for line in result.output.splitlines()] == ["epoch 1/2", "epoch 2/2", "best vali"]
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(r["epoch"], r["step"]) for r in records if r["event"] == "step"] == [
        (epoch, step) for epoch in (1, 2) for step in range(1, 101)
    ]
    best = min(r["valid_loss"] for r in records if r["event"] == "epoch")
    assert evaluate(checkpoint.load_checkpoint(out), batchify(Corpus(text).valid, 10), 10) == best
    assert f"best validation loss {best:.4f}" in result.output
    assert checkpoint.load_checkpoint(out).config == ModelConfig(ntoken=10, ninp=4, nhid=4, nlayers=1)
    assert drawing.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.jsonl", "m.png", "m.safetensors"]


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 20.0), ("adamw", 0.001)])
def test_each_optimizer_has_a_rate_of_its_own(text, tmp_path, optimizer, lr):
    log = tmp_path / "log"
    arguments = [argument for argument in TINY if argument not in ("--lr", "2")]
    command = ["train", "--corpus", str(text), "--out", str(tmp_path / "m.pth"), *arguments, "--log", str(log)]
    assert CliRunner().invoke(main, [*command, "--optimizer", optimizer, "--epochs", "1"]).exit_code == 0
    assert json.loads(log.read_text().splitlines()[-1])["lr"] == lr


def test_out_keeps_the_best_model_when_a_later_epoch_is_worse(text, tmp_path, monkeypatch):
    for out, losses in (("one", [2.0]), ("two", [2.0, 3.0]), ("other", [3.0, 2.0])):
        monkeypatch.setattr("lstmq.training.trainer.evaluate", partial(lambda script, *_: next(script), iter(losses)))
        assert train(text, tmp_path / out, "--epochs", len(losses)).exit_code == 0
    one, two, other = (checkpoint.load_checkpoint(tmp_path / out) for out in ("one", "two", "other"))
    assert same(one, two)
    assert not same(one, other)


def test_killed_at_random_points_and_resumed_it_ends_where_an_uncut_run_ends(tmp_path):
    """On the sample. What was asked for at first need not be asked for again."""
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    state, log = tmp_path / "cut.safetensors.resume", tmp_path / "cut.jsonl"
    start = "--ninp 4 --nhid 4 --nlayers 2 --dropout 0.3 --epochs 2 --lr 5".split()
    always = ["--threads", "1", "--save-every", "0"]
    command = ["train", "--out", str(whole), *always, *start, "--log", str(tmp_path / "whole.jsonl")]
    assert CliRunner().invoke(main, command).exit_code == 0
    command = [sys.executable, "-m", "lstmq", "train", "--out", str(cut), *always, "--resume", "--log", str(log)]
    source, kills, finished = random.Random(0), 0, False
    while not finished:
        progressed = state.stat().st_mtime_ns if state.exists() else 0
        process = subprocess.Popen([*command, *([] if state.exists() else start)], stdout=subprocess.PIPE, text=True)
        if kills < 3:
            while process.poll() is None and not (state.exists() and state.stat().st_mtime_ns > progressed):
                time.sleep(0.005)
            time.sleep(source.random() / 4)  # somewhere on the way
            process.send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        finished = process.returncode == 0
        kills += not finished
        assert finished or process.returncode == -signal.SIGKILL, output
    assert kills == 3
    assert not state.exists()
    assert cut.read_bytes() == whole.read_bytes()
    assert losses_of(log) == losses_of(tmp_path / "whole.jsonl")


@pytest.mark.parametrize(("minutes", "times"), [(0, 1 + 2 * 101), (1000, 1 + 2)])
def test_the_state_is_written_first_of_all_then_every_few_minutes_and_every_epoch(
    text, tmp_path, monkeypatch, minutes, times
):
    written = []
    monkeypatch.setattr(Outputs, "save_state", lambda outputs, trainer: written.append(trainer.step))
    assert train(text, tmp_path / "m.pth", "--epochs", 2, "--save-every", minutes).exit_code == 0
    assert len(written) == times


@pytest.mark.parametrize("killed_in", ["save_state", "save_best"])
@pytest.mark.parametrize("time_of_it", [1, 2])
def test_killed_while_it_writes_it_can_be_resumed(text, tmp_path, monkeypatch, killed_in, time_of_it):
    whole, out = tmp_path / "whole.pth", tmp_path / "m.pth"
    ever_better = count(9, -1)
    monkeypatch.setattr("lstmq.training.trainer.evaluate", lambda *_: float(next(ever_better)))
    assert train(text, whole, "--epochs", 2).exit_code == 0
    real, times = getattr(Outputs, killed_in), []

    def killed(outputs, trainer):
        times.append(trainer)
        if len(times) > time_of_it:
            raise SystemExit(-9)
        real(outputs, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Outputs, killed_in, killed)
        assert train(text, out, "--epochs", 2).exit_code == -9
    assert train(text, out, "--resume").exit_code == 0
    one, other = checkpoint.load_checkpoint(whole), checkpoint.load_checkpoint(out)
    assert same(one, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.pth", "whole.pth"]


def test_an_interrupt_is_obeyed_between_two_steps_and_resumed(text, tmp_path):
    out = tmp_path / "m.pth"
    command = command_line(text, out, "--epochs", 300)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for epoch in (1, 2):
        assert process.stdout.readline().startswith(f"epoch {epoch}/300")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"lstmq: interrupted at epoch \d+, step \d+: go on with --resume\n", errors)
    assert checkpoint.load_checkpoint(out).config.nhid == 4
    refused = train(text, out, "--epochs", 300)
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert "m.pth.resume is an unfinished run: go on with --resume, or delete it" in refused.output
    epoch = int(re.search(r"epoch (\d+)", errors).group(1))
    too_few = train(text, out, "--epochs", 1, "--resume")
    assert "epochs are done, more than" in too_few.output
    assert (tmp_path / "m.pth.resume").exists()
    resumed = train(text, out, "--epochs", epoch, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert resumed.output.startswith(f"epoch {epoch}/{epoch}")
    again = train(text, out, "--resume")
    assert "nothing to resume" in again.output


@pytest.mark.skipif(torch.__version__.startswith("2.2."), reason="the torchrun of 2.2 sometimes does not end")
def test_two_processes_end_where_one_ends_but_for_rounding(text, tmp_path):
    """Without dropout, which every process draws for its own columns."""
    arguments = ["--epochs", "2", "--dropout", "0", "--lr", "0.5"]
    one, two, log = tmp_path / "one.safetensors", tmp_path / "two.safetensors", tmp_path / "two.jsonl"
    assert train(text, one, *arguments, "--log", tmp_path / "one.jsonl").exit_code == 0
    command = command_line(text, two, *arguments, "--log-file", log)
    command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("best validation loss") == 1  # one process writes
    losses = [
        [record["loss"] for record in map(json.loads, path.read_text().splitlines()) if record["event"] == "step"]
        for path in (tmp_path / "one.jsonl", log)
    ]
    assert len(losses[0]) == 200
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for key, value in checkpoint.load_checkpoint(one).state_dict().items():
        torch.testing.assert_close(checkpoint.load_checkpoint(two).state_dict()[key], value, rtol=1e-2, atol=1e-4)


def test_the_first_interrupt_asks_and_the_second_kills():
    before = signal.getsignal(signal.SIGINT)
    with interrupts() as asked:
        assert not asked.is_set()
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "1e38", "--clip", "1e30"], r"epoch 1, step \d+: the loss is .* lower the learning rate"),
        (["--device", "abacus"], "no device 'abacus'"),
        (["--plot", "x.png"], "--plot draws what --log writes: give both"),
        (["--log", "log", "--plot", "x.gif"], "expected a .png, .svg or .pdf to draw to, found x.gif"),
        (["--log", "log", "--plot", "no/such/x.png"], "no such folder to draw to: no/such"),
        (["--device", "meta"], "no device 'meta': expected cpu or cuda"),
        (["--optimizer", "adamw", "--lr", "3e38"], "."),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--epochs", "0"], "epochs must be a number above 0, found 0"),
        (["--dropout", "1"], "dropout must be a probability below 1"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(text, tmp_path, arguments, message):
    result = train(text, tmp_path / "m.safetensors", *arguments)
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert re.search(message, result.output)
    assert not (tmp_path / "m.safetensors").exists()


def test_a_run_that_blew_up_keeps_its_best_model_and_a_finite_state(text, tmp_path):
    out, state = tmp_path / "m.safetensors", tmp_path / "m.safetensors.resume"
    assert train(text, out, "--epochs", 1).exit_code == 0
    best = out.read_bytes()
    for resume in ([], ["--resume"]):
        result = train(text, out, "--epochs", 2, "--lr", "1e38", "--clip", "1e30", "--save-every", "0", *resume)
        assert (result.exit_code, result.output.count("\n")) == (2, 1)
        assert "lower the learning rate" in result.output
        assert all(weight.isfinite().all() for weight in checkpoint.read_tensors(state)["model"].values())
        assert out.read_bytes() == best


@pytest.mark.parametrize("change", [{"warmup": 1}, {"epochs": None}, {"seed": [1]}])
def test_a_state_of_another_version_is_refused(text, tmp_path, change):
    out, state = tmp_path / "m.safetensors", tmp_path / "m.safetensors.resume"
    assert train(text, out, "--lr", "1e38", "--clip", "1e30").exit_code == 2  # which leaves its state
    kept = checkpoint.read_tensors(state)
    kept["train_config"] |= change
    torch.save(kept, state)
    result = train(text, out, "--resume")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "m.safetensors.resume: it is not the state of a run of this version" in result.output


def test_one_file_is_not_two(text, tmp_path):
    result = train(text, tmp_path / "m", "--log", tmp_path / "m")
    assert (result.exit_code, result.output) == (2, "lstmq: error: --out, --log and --plot must be different files\n")


def test_a_damaged_state_is_refused(text, tmp_path):
    out = tmp_path / "m.safetensors"
    (tmp_path / "m.safetensors.resume").write_bytes(b"PK\x03\x04 and no more")
    result = train(text, out, "--resume")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "damaged" in result.output
