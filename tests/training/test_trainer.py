"""Laws of training.

1. One step is the step that the recipe says, computed here without the trainer.
2. A run that is cut anywhere and resumed ends bit by bit where an uncut one ends.
3. What is not finite stops the run, and is not kept.
"""

import copy
import math
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig, batchify, evaluate, get_batch
from lstmq.model import checkpoint
from lstmq.training.trainer import EpochResult, StepResult, TrainConfig, Trainer, TrainingError
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
        if isinstance(event, EpochResult):
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
    losses = [event.valid_loss for event in trainer.run() if isinstance(event, EpochResult)]
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
    second.restore(checkpoint.read_tensors(path))
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
    assert [event.lr for event in longer.run() if isinstance(event, EpochResult)] == [0.5]
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", [1, 2]),
        ("position", [0, 1]),
        ("best", {}),
        ("model", {}),
        ("model", None),
        ("optimizer", {"state": 1}),
    ],
)
def test_a_state_with_a_strange_part_is_refused(name, value):
    trainer = fresh()
    with pytest.raises(TrainingError, match="it is not the state of a run"):
        trainer.restore(trainer.state() | {name: value})


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
    assert isinstance(next(resumed.run()), StepResult)


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


def test_steps_and_epochs_are_what_a_run_yields():
    assert {type(event) for event in fresh().run()} == {StepResult, EpochResult}
