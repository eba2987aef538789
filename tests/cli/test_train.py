"""Laws of ``lstmq train``.

1. It writes the best model, a log and a plot, and nothing else.
2. A run that is interrupted or killed anywhere and resumed ends where an uninterrupted one ends.
3. Two processes end where one ends, except for rounding.
4. Wrong input is an error of one line and exit code 2.
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

from lstmq import Corpus, ModelConfig, batchify, evaluate, load_checkpoint
from lstmq.cli import main
from lstmq.cli.interrupts import interrupts
from lstmq.model.checkpoint import read_tensors
from lstmq.training.run import Outputs

SMALL = "--ninp 4 --nhid 4 --nlayers 1 --bptt 10 --batch-size 4 --threads 1 --lr 2".split()
STEPS = 20  # of an epoch of the small text
DIVERGE = ("--lr", "1e38", "--clip", "1e30")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder of random text."""
    folder = tmp_path_factory.mktemp("text")
    generator = random.Random(0)
    for split, lines in (("train", 80), ("valid", 20), ("test", 20)):
        rows = (" ".join(f"w{generator.randrange(9)}" for _ in range(9)) for _ in range(lines))
        (folder / f"{split}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def train(text, out, *options):
    return CliRunner().invoke(main, ["train", "--corpus", str(text), "--out", str(out), *SMALL, *map(str, options)])


def command_line(text, out, *options):
    files = ["--corpus", str(text), "--out", str(out)]
    return [sys.executable, "-m", "lstmq", "train", *files, *SMALL, *map(str, options)]


def have_equal_weights(one, other):
    return all(torch.equal(weight, other.state_dict()[key]) for key, weight in one.state_dict().items())


def lines_without_speed(log):
    return [re.sub(r', "tokens_per_second": [\d.]+', "", line) for line in log.read_text().splitlines()]


# Law 1.


def test_train_writes_the_best_model_a_log_and_a_plot(text, tmp_path):
    out, log, plot = tmp_path / "m.safetensors", tmp_path / "m.jsonl", tmp_path / "m.png"
    result = train(text, out, "--epochs", 2, "--log", log, "--plot", plot)
    assert result.exit_code == 0, result.output
    assert [line[:9] for line in result.output.splitlines()] == ["epoch 1/2", "epoch 2/2", "best vali"]
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(record["epoch"], record["step"]) for record in records if record["event"] == "step"] == [
        (epoch, step) for epoch in (1, 2) for step in range(1, STEPS + 1)
    ]
    best = min(record["valid_loss"] for record in records if record["event"] == "epoch")
    assert evaluate(load_checkpoint(out), batchify(Corpus(text).valid, 10), 10) == best
    assert f"best validation loss {best:.4f}" in result.output
    assert load_checkpoint(out).config == ModelConfig(ntoken=10, ninp=4, nhid=4, nlayers=1)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.jsonl", "m.png", "m.safetensors"]


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 20.0), ("adamw", 0.001)])
def test_each_optimizer_has_its_own_default_learning_rate(text, tmp_path, optimizer, lr):
    log = tmp_path / "log"
    options = [option for option in SMALL if option not in ("--lr", "2")]
    command = ["train", "--corpus", str(text), "--out", str(tmp_path / "m.pth"), *options, "--log", str(log)]
    assert CliRunner().invoke(main, [*command, "--optimizer", optimizer, "--epochs", "1"]).exit_code == 0
    assert json.loads(log.read_text().splitlines()[-1])["lr"] == lr


def test_out_keeps_the_best_model_if_a_later_epoch_is_worse(text, tmp_path, monkeypatch):
    for out, losses in (("one", [2.0]), ("worse", [2.0, 3.0]), ("better", [3.0, 2.0])):
        monkeypatch.setattr("lstmq.training.trainer.evaluate", partial(lambda losses, *_: next(losses), iter(losses)))
        assert train(text, tmp_path / out, "--epochs", len(losses)).exit_code == 0
    one, worse, better = (load_checkpoint(tmp_path / out) for out in ("one", "worse", "better"))
    assert have_equal_weights(one, worse)
    assert not have_equal_weights(one, better)


# Law 2.


@pytest.mark.parametrize(("minutes", "saves"), [(0, 1 + 2 * (STEPS + 1)), (1000, 1 + 2)])
def test_state_is_saved_at_the_start_every_few_minutes_and_after_every_epoch(
    text, tmp_path, monkeypatch, minutes, saves
):
    steps = []
    monkeypatch.setattr(Outputs, "save_state", lambda outputs, trainer: steps.append(trainer.step))
    assert train(text, tmp_path / "m.pth", "--epochs", 2, "--save-every", minutes).exit_code == 0
    assert len(steps) == saves


@pytest.mark.parametrize("method", ["save_state", "save_best"])
@pytest.mark.parametrize("saves", [1, 2])
def test_run_killed_while_it_saves_can_be_resumed(text, tmp_path, monkeypatch, method, saves):
    whole, out = tmp_path / "whole.pth", tmp_path / "m.pth"
    ever_better = count(9, -1)
    monkeypatch.setattr("lstmq.training.trainer.evaluate", lambda *_: float(next(ever_better)))
    assert train(text, whole, "--epochs", 2).exit_code == 0
    save, calls = getattr(Outputs, method), []

    def save_or_die(outputs, trainer):
        calls.append(trainer)
        if len(calls) > saves:
            raise SystemExit(-9)
        save(outputs, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Outputs, method, save_or_die)
        assert train(text, out, "--epochs", 2).exit_code == -9
    assert train(text, out, "--resume").exit_code == 0
    assert have_equal_weights(load_checkpoint(whole), load_checkpoint(out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.pth", "whole.pth"]


def test_run_interrupted_in_an_epoch_continues_with_its_options(text, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.pth", tmp_path / "m.pth"
    assert train(text, whole, "--epochs", 2, "--seed", 5, "--log", tmp_path / "whole.jsonl").exit_code == 0
    get_batch, steps = sys.modules["lstmq.training.trainer"].get_batch, count()

    def get_batch_and_interrupt(*arguments):
        if next(steps) == STEPS + 7:
            signal.raise_signal(signal.SIGINT)
        return get_batch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("lstmq.training.trainer.get_batch", get_batch_and_interrupt)
        result = train(text, out, "--epochs", 2, "--seed", 5, "--log", tmp_path / "m.jsonl")
    assert result.exit_code == 130
    assert result.stderr == "lstmq: interrupted at epoch 2, step 8: go on with --resume\n"
    result = train(text, out, "--resume", "--log", tmp_path / "m.jsonl")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("epoch 2/2")
    assert have_equal_weights(load_checkpoint(whole), load_checkpoint(out))
    assert lines_without_speed(tmp_path / "m.jsonl") == lines_without_speed(tmp_path / "whole.jsonl")


@pytest.mark.slow
def test_process_interrupted_by_a_signal_can_be_resumed(text, tmp_path):
    out = tmp_path / "m.pth"
    command = command_line(text, out, "--epochs", 2000)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for epoch in (1, 2):
        assert process.stdout.readline().startswith(f"epoch {epoch}/2000")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"lstmq: interrupted at epoch \d+, step \d+: go on with --resume\n", errors)
    assert load_checkpoint(out).config.nhid == 4
    refused = train(text, out, "--epochs", 2000)
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert "m.pth.resume is an unfinished run: go on with --resume, or delete it" in refused.output
    epoch = int(re.search(r"epoch (\d+)", errors).group(1))
    too_few = train(text, out, "--epochs", 1, "--resume")
    assert "finished epochs, more than 1" in too_few.output
    assert (tmp_path / "m.pth.resume").exists()
    resumed = train(text, out, "--epochs", epoch, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert resumed.output.startswith(f"epoch {epoch}/{epoch}")
    assert "nothing to resume" in train(text, out, "--resume").output


@pytest.mark.slow
def test_process_killed_at_random_times_ends_with_the_same_bytes(tmp_path):
    """It trains on the bundled sample. A resumed run does not need its options again."""
    whole, out = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    state, log = tmp_path / "m.safetensors.resume", tmp_path / "m.jsonl"
    new_run = "--ninp 4 --nhid 4 --nlayers 2 --dropout 0.3 --epochs 1 --lr 5".split()
    options = ["--threads", "1", "--save-every", "0"]
    command = ["train", "--out", str(whole), *options, *new_run, "--log", str(tmp_path / "whole.jsonl")]
    assert CliRunner().invoke(main, command).exit_code == 0
    command = [sys.executable, "-m", "lstmq", "train", "--out", str(out), *options, "--resume", "--log", str(log)]
    generator, kills, finished = random.Random(0), 0, False
    while not finished:
        saved = state.stat().st_mtime_ns if state.exists() else 0
        run_options = [] if state.exists() else new_run
        process = subprocess.Popen([*command, *run_options], stdout=subprocess.PIPE, text=True)
        if kills < 2:
            while process.poll() is None and not (state.exists() and state.stat().st_mtime_ns > saved):
                time.sleep(0.005)
            time.sleep(generator.random() / 4)
            process.send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        finished = process.returncode == 0
        kills += not finished
        assert finished or process.returncode == -signal.SIGKILL, output
    assert kills == 2
    assert not state.exists()
    assert out.read_bytes() == whole.read_bytes()
    assert lines_without_speed(log) == lines_without_speed(tmp_path / "whole.jsonl")


def test_first_interrupt_sets_the_event_and_the_second_ends_the_process():
    handler = signal.getsignal(signal.SIGINT)
    with interrupts() as interrupted:
        assert not interrupted.is_set()
        signal.raise_signal(signal.SIGINT)
        assert interrupted.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is handler


def test_run_that_diverges_keeps_the_best_model_and_a_finite_state(text, tmp_path):
    out, state = tmp_path / "m.safetensors", tmp_path / "m.safetensors.resume"
    assert train(text, out, "--epochs", 1).exit_code == 0
    best = out.read_bytes()
    for resume in ([], ["--resume"]):
        result = train(text, out, "--epochs", 2, *DIVERGE, "--save-every", "0", *resume)
        assert (result.exit_code, result.output.count("\n")) == (2, 1)
        assert "lower the learning rate" in result.output
        assert all(weight.isfinite().all() for weight in read_tensors(state)["model"].values())
        assert out.read_bytes() == best


# Law 3.


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__.startswith("2.2."), reason="the torchrun of 2.2 sometimes does not end")
def test_two_processes_end_where_one_ends_except_for_rounding(text, tmp_path):
    """Without dropout, because each process has its own."""
    options = ["--epochs", "2", "--dropout", "0", "--lr", "0.5"]
    one, two, log = tmp_path / "one.safetensors", tmp_path / "two.safetensors", tmp_path / "two.jsonl"
    assert train(text, one, *options, "--log", tmp_path / "one.jsonl").exit_code == 0
    command = command_line(text, two, *options, "--log-file", log)
    command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("best validation loss") == 1  # one process prints
    losses = [
        [record["loss"] for record in map(json.loads, path.read_text().splitlines()) if record["event"] == "step"]
        for path in (tmp_path / "one.jsonl", log)
    ]
    assert len(losses[0]) == 2 * STEPS
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for key, weight in load_checkpoint(one).state_dict().items():
        torch.testing.assert_close(load_checkpoint(two).state_dict()[key], weight, rtol=1e-2, atol=1e-4)


# Law 4.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DIVERGE, r"epoch 1, step \d+: the loss is .* lower the learning rate"),
        (["--device", "abacus"], "no device 'abacus'"),
        (["--device", "meta"], "no device 'meta': expected cpu or cuda"),
        (["--plot", "x.png"], "--plot draws what --log writes to a file: give both"),
        (["--log", "log", "--plot", "x.gif"], "expected a .png, .svg or .pdf to draw to, found x.gif"),
        (["--log", "log", "--plot", "no/such/x.png"], "no such folder to draw to: no/such"),
        (["--out", "no/such/m.pth"], "no such folder to write to: .*no/such"),
        (["--optimizer", "adamw", "--lr", "3e38"], "."),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--epochs", "0"], "epochs must be a number above 0, found 0"),
        (["--dropout", "1"], "dropout must be a probability below 1"),
    ],
)
def test_wrong_option_is_refused_in_one_line(text, tmp_path, options, message):
    result = train(text, tmp_path / "m.safetensors", *options)
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert re.search(message, result.output)
    assert not (tmp_path / "m.safetensors").exists()


def test_one_file_for_two_outputs_is_refused(text, tmp_path):
    result = train(text, tmp_path / "m", "--log", tmp_path / "m")
    assert (result.exit_code, result.output) == (2, "lstmq: error: --out, --log and --plot must be different files\n")


def test_plot_without_matplotlib_says_how_to_install_it(text, tmp_path, monkeypatch):
    monkeypatch.setattr("lstmq.figures.find_spec", lambda name: None)
    result = train(text, tmp_path / "m.pth", "--log", tmp_path / "log", "--plot", tmp_path / "plot.png")
    assert result.exit_code == 2
    assert "pip install 'lstmq[plot]'" in result.output


@pytest.mark.parametrize("change", [{"warmup": 1}, {"epochs": None}, {"seed": [1]}])
def test_state_of_another_version_is_refused(text, tmp_path, change):
    out, state = tmp_path / "m.safetensors", tmp_path / "m.safetensors.resume"
    assert train(text, out, *DIVERGE).exit_code == 2  # leaves its state
    tensors = read_tensors(state)
    tensors["train_config"] |= change
    torch.save(tensors, state)
    result = train(text, out, "--resume")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "m.safetensors.resume: it is not the state of a run of this version" in result.output


def test_damaged_state_is_refused(text, tmp_path):
    out = tmp_path / "m.safetensors"
    (tmp_path / "m.safetensors.resume").write_bytes(b"PK\x03\x04 and no more")
    result = train(text, out, "--resume")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "damaged" in result.output
