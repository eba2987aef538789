"""Laws of training.

1. One step is the step that the recipe says, computed here without the trainer.
2. A run that is cut anywhere and resumed ends bit by bit where an uncut one ends.
3. Two processes end where one ends, but for rounding.
4. What is not finite stops the run, and is not kept.
"""

import copy
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count, islice

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import Corpus, LSTMModel, ModelConfig, batchify, checkpoint, curves, evaluate, get_batch
from lstmq.cli import main
from lstmq.cli.processes import interrupts
from lstmq.cli.train import Outputs
from lstmq.training import Epoch, Step, TrainConfig, Trainer, TrainingError
from strategies import stream

SHAPE = ModelConfig(ntoken=20, ninp=6, nhid=5, nlayers=2, dropout=0.3)
TRAIN, VALID = stream(20, 400, 0), stream(20, 100, 1)


def fresh(dropout=0.3, **config):
    shape = ModelConfig(ntoken=20, ninp=6, nhid=5, nlayers=2, dropout=dropout)
    model = LSTMModel(shape, torch.Generator().manual_seed(0))
    return Trainer(model, TRAIN, VALID, TrainConfig(**{"epochs": 2, "batch_size": 4, "bptt": 10, "lr": 1.0} | config))


def same(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_the_steps_are_those_of_the_recipe():
    """Plain gradient descent, written out: carried state, mean loss, a norm of at most the clip, w -= lr * gradient."""
    trainer = fresh(dropout=0.0, lr=2.0, clip=0.1)
    model = LSTMModel(SHAPE, torch.Generator().manual_seed(0)).eval()
    source, hidden = batchify(TRAIN, 4), model.init_hidden(4)
    run = trainer.run()
    for i in range(0, 90, 10):
        data, targets = get_batch(source, i, 10)
        logits, hidden = model(data, tuple(part.detach() for part in hidden))
        loss = F.cross_entropy(logits.view(-1, 20), targets)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
        with torch.no_grad():
            for weight, gradient in zip(model.parameters(), gradients, strict=True):
                weight -= 2.0 * gradient * min(1.0, 0.1 / norm)
        step = next(run)
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    for weight, expected in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_of_the_products_alone():
    half, full = fresh(dropout=0.0, dtype="bfloat16"), fresh(dropout=0.0)
    one, other = next(half.run()).loss, next(full.run()).loss
    assert one != other
    assert one == pytest.approx(other, abs=0.02)
    assert {weight.dtype for weight in half.model.parameters()} == {torch.float32}


def test_every_process_draws_a_dropout_of_its_own():
    one, other = fresh(), fresh()
    other.ranks.rank = 1  # of one
    assert next(one.run()).loss != next(other.run()).loss


def test_an_epoch_reads_every_token_once_and_its_loss_is_their_mean():
    events = list(fresh(epochs=1).run())
    steps, epoch = events[:-1], events[-1]
    assert [step.step for step in steps] == list(range(1, 11))
    assert sum(step.tokens for step in steps) == 4 * 99
    mean = math.fsum(step.loss * step.tokens for step in steps) / (4 * 99)
    assert epoch.loss == pytest.approx(mean)


def test_the_rate_is_quartered_when_validation_stalls_and_the_best_model_is_kept():
    trainer = fresh(epochs=8, lr=30.0, clip=5.0)  # too much: it will stall
    seen = []
    for event in trainer.run():
        if isinstance(event, Epoch):
            valid = evaluate(trainer.model, batchify(VALID, 10), 10)
            assert event.valid_loss == valid
            assert event.improved == (valid < min((loss for loss, _ in seen), default=math.inf))
            seen.append((valid, event.lr))
    stalls = sum(loss >= min(earlier for earlier, _ in seen[:i]) for i, (loss, _) in enumerate(seen) if 0 < i < 7)
    assert 0 < stalls < 7
    assert seen[-1][1] == 30.0 / 4**stalls
    best = min(loss for loss, _ in seen)
    assert trainer.best_loss == best
    assert evaluate(trainer.best_model(), batchify(VALID, 10), 10) == best


def test_training_learns_what_there_is_to_learn():
    text = torch.arange(5).repeat(200)  # 0 1 2 3 4 0 1 ...: nothing to guess
    model = LSTMModel(ModelConfig(ntoken=5, ninp=8, nhid=8, nlayers=1, dropout=0), torch.Generator().manual_seed(0))
    trainer = Trainer(model, text, text, TrainConfig(epochs=6, batch_size=4, bptt=10, lr=5.0))
    losses = [event.valid_loss for event in trainer.run() if isinstance(event, Epoch)]
    assert losses[-1] < 0.02 < losses[0] < math.log(5)


@settings(max_examples=25)
@given(st.integers(0, 22), st.sampled_from(["sgd", "adamw"]), st.sampled_from(["float32", "bfloat16"]))
def test_a_run_cut_anywhere_ends_bit_by_bit_where_an_uncut_one_ends(tmp_path_factory, cut, optimizer, dtype):
    config = {"optimizer": optimizer, "dtype": dtype, "lr": 0.01 if optimizer == "adamw" else 1.0}
    whole = fresh(**config)
    expected = list(whole.run())
    first = fresh(**config)
    events = list(islice(first.run(), cut))
    path = tmp_path_factory.mktemp("run") / "state"
    torch.save(first.state(), path)
    second = fresh(**config)
    second.restore(checkpoint.read(path))
    events += second.run()
    assert events == expected
    assert same(second.model, whole.model)
    assert same(second.best_model(), whole.best_model())


def test_more_epochs_and_another_rate_may_follow_but_no_other_run():
    trainer = fresh()
    list(trainer.run())
    state = trainer.state()
    longer = fresh(epochs=3, lr=0.5, clip=0.1)
    longer.restore(state)
    assert [event.lr for event in longer.run() if isinstance(event, Epoch)] == [0.5]
    for change in ({"batch_size": 2}, {"seed": 1}, {"optimizer": "adamw"}, {"bptt": 5}, {"dropout": 0.1}):
        with pytest.raises(TrainingError, match=f"another run: its {next(iter(change))} is"):
            fresh(**change).restore(state)
    other = Trainer(LSTMModel(SHAPE), VALID, TRAIN, trainer.config)
    with pytest.raises(TrainingError, match="another run: its corpus is"):
        other.restore(state)


def test_fewer_epochs_than_are_done_are_refused():
    trainer = fresh()
    list(trainer.run())
    with pytest.raises(TrainingError, match="2 epochs are done, more than the 1 asked for"):
        fresh(epochs=1).restore(trainer.state())


def test_a_validation_that_is_not_finite_stops_the_run():
    trainer = fresh()
    run = trainer.run()
    for _ in range(trainer.steps):
        next(run)
    with torch.no_grad():
        trainer.model.decoder.bias[3] = math.nan
    with pytest.raises(TrainingError, match="epoch 1, step 10: the validation loss is nan: lower the learning rate"):
        next(run)
    with pytest.raises(TrainingError, match="epoch 1, step 10: a weight is not finite"):
        trainer.state()


@pytest.mark.parametrize("state", [None, {}, {"model_config": 3}, [1], {"model_config": {}, "train_config": {}}])
def test_what_is_no_run_is_refused(state):
    with pytest.raises(TrainingError, match="it is not the state of a run"):
        fresh().restore(state)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_at_its_step(where):
    trainer = fresh()
    run = trainer.run()
    next(run), next(run)
    before = copy.deepcopy(trainer.state())
    if where == "loss":
        with torch.no_grad():
            trainer.model.decoder.bias[3] = math.nan
    else:
        trainer.model.encoder.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"epoch 1, step 3: the loss is .* lower the learning rate \(1\)"):
        next(run)
    resumed = fresh()
    resumed.restore(before)
    assert isinstance(next(resumed.run()), Step)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"bptt": -1},
        {"lr": 0.0},
        {"lr": math.nan},
        {"clip": math.inf},
        {"optimizer": "lion"},
        {"dtype": "float16"},
    ],
)
def test_a_config_out_of_range_is_refused(change):
    name, value = next(iter(change.items()))
    with pytest.raises(ValueError, match=rf"{name} must be .*found '?{value}"):
        TrainConfig(**change)


def test_too_little_text_is_refused():
    with pytest.raises(ValueError, match="too short for 900 columns"):
        fresh(batch_size=900)
    with pytest.raises(ValueError, match="too little text: 400 columns of 400 tokens"):
        fresh(batch_size=400)


# The command.

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
    assert evaluate(checkpoint.load(out), batchify(Corpus(text).valid, 10), 10) == best
    assert f"best validation loss {best:.4f}" in result.output
    assert checkpoint.load(out).config == ModelConfig(ntoken=10, ninp=4, nhid=4, nlayers=1)
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
        monkeypatch.setattr("lstmq.training.evaluate", partial(lambda script, *_: next(script), iter(losses)))
        assert train(text, tmp_path / out, "--epochs", len(losses)).exit_code == 0
    one, two, other = (checkpoint.load(tmp_path / out) for out in ("one", "two", "other"))
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
    source = random.Random(0)
    for kill in range(4):
        progressed = state.stat().st_mtime_ns if state.exists() else 0
        process = subprocess.Popen([*command, *([] if state.exists() else start)], stdout=subprocess.PIPE, text=True)
        if kill < 3:
            while process.poll() is None and not (state.exists() and state.stat().st_mtime_ns > progressed):
                time.sleep(0.005)
            time.sleep(source.random())  # somewhere on the way
            process.send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if kill < 3 else 0), output
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
    monkeypatch.setattr("lstmq.training.evaluate", lambda *_: float(next(ever_better)))
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
    one, other = checkpoint.load(whole), checkpoint.load(out)
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
    assert checkpoint.load(out).config.nhid == 4
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


def test_two_processes_end_where_one_ends_but_for_rounding_also_when_interrupted(text, tmp_path):
    """Without dropout, which every process draws for its own columns."""
    arguments = ["--epochs", "2", "--dropout", "0", "--lr", "0.5"]
    one, two, log = tmp_path / "one.safetensors", tmp_path / "two.safetensors", tmp_path / "two.jsonl"
    assert train(text, one, *arguments, "--log", tmp_path / "one.jsonl").exit_code == 0
    command = command_line(text, two, *arguments, "--log-file", log)
    command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, **pipes, env=environment) as process:
        while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 20):
            time.sleep(0.01)
        process.terminate()
        assert "interrupted at epoch 1" in process.stderr.read()
    result = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=100, env=environment)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3  # one process writes
    losses = [
        [record["loss"] for record in map(json.loads, path.read_text().splitlines()) if record["event"] == "step"]
        for path in (tmp_path / "one.jsonl", log)
    ]
    assert len(losses[0]) == 200
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for key, value in checkpoint.load(one).state_dict().items():
        torch.testing.assert_close(checkpoint.load(two).state_dict()[key], value, rtol=1e-2, atol=1e-4)


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
        assert all(weight.isfinite().all() for weight in checkpoint.read(state)["model"].values())
        assert out.read_bytes() == best


def test_a_damaged_state_is_refused(text, tmp_path):
    out = tmp_path / "m.safetensors"
    (tmp_path / "m.safetensors.resume").write_bytes(b"PK\x03\x04 and no more")
    result = train(text, out, "--resume")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "damaged" in result.output


def test_a_log_is_cut_back_to_where_a_run_goes_on(tmp_path):
    path = tmp_path / "log"
    with curves.Log(path) as log:
        for epoch in (1, 2):
            for step in (1, 2):
                log.write("step", epoch, step)
            log.write("epoch", epoch, 2)
    whole = path.read_text()
    path.write_text(whole + '{"event": "st')  # cut in the middle of a line
    with curves.Log(path, 0, 2):
        assert path.read_text().count("\n") == 2  # the epoch's own line comes again when it is finished again
    path.write_text(whole + '{"event": "st')
    with curves.Log(path, 1, 1) as log:
        log.write("step", 2, 2)
        log.write("epoch", 2, 2)
    assert path.read_text() == whole


def test_a_new_run_begins_a_new_log(tmp_path):
    (tmp_path / "log").write_text("old")
    with curves.Log(tmp_path / "log") as log:
        log.write("step", 1, 1)
    assert (tmp_path / "log").read_text() == '{"event": "step", "epoch": 1, "step": 1}\n'


@pytest.mark.parametrize("line", ["text", "{}", "[]", '{"event": "step", "epoch": null}'])
def test_what_is_no_log_is_refused_by_name(tmp_path, line):
    (tmp_path / "log").write_text(line + "\n")
    with pytest.raises(ValueError, match="log is not the log of a run"):
        curves.Log(tmp_path / "log", 1, 0)
    assert (tmp_path / "log").read_text() == line + "\n"


def test_drawing_without_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'lstmq\[plot\]'"):
        curves.check_plot(tmp_path / "plot.png")


def test_steps_and_epochs_are_what_a_run_yields():
    assert {type(event) for event in fresh().run()} == {Step, Epoch}
