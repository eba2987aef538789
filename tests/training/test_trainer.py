"""Laws of training.

1. The steps are those of the recipe, computed here without the trainer.
2. A run that is saved at any step and resumed ends with the same bits as an uninterrupted one.
3. Another run cannot be resumed.
4. A loss, a gradient or a weight that is not finite stops the run.
"""

import copy
import math
from functools import cache
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig, TrainConfig, Trainer, batchify, evaluate, get_batch
from lstmq.model.checkpoint import read_tensors
from lstmq.training.results import EpochResult, StepResult, TrainingError
from strategies import random_ids

SHAPE = ModelConfig(ntoken=20, ninp=6, nhid=5, nlayers=2, dropout=0.3)
TRAIN, VALID = random_ids(20, 400, 0), random_ids(20, 100, 1)


def trains_in_bfloat16():
    """Return whether torch trains LSTMs in bfloat16 on this processor. Some without AVX-512 do not."""
    try:
        with torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(6, 5)(torch.zeros(2, 1, 6))
    except RuntimeError:
        return False
    return True


DTYPES = ["float32", "bfloat16"] if trains_in_bfloat16() else ["float32"]


def new_trainer(dropout=0.3, **config):
    shape = ModelConfig(ntoken=20, ninp=6, nhid=5, nlayers=2, dropout=dropout)
    model = LSTMModel(shape, torch.Generator().manual_seed(0))
    return Trainer(model, TRAIN, VALID, TrainConfig(**{"epochs": 2, "batch_size": 4, "bptt": 10, "lr": 1.0} | config))


def have_equal_weights(one, other):
    return all(torch.equal(weight, other.state_dict()[key]) for key, weight in one.state_dict().items())


# Law 1.


def test_steps_are_gradient_descent_with_carried_state_and_clipped_gradients():
    trainer = new_trainer(dropout=0.0, lr=2.0, clip=0.1)
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
        assert next(run).loss == pytest.approx(loss.item(), rel=1e-5)
    for weight, expected in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)


def test_epoch_reads_each_token_once_and_its_loss_is_the_mean():
    *steps, epoch = new_trainer(epochs=1).run()
    assert [step.step for step in steps] == list(range(1, 11))
    assert sum(step.tokens for step in steps) == 4 * 99
    mean = math.fsum(step.loss * step.tokens for step in steps) / (4 * 99)
    assert epoch.loss == pytest.approx(mean)


def test_learning_rate_is_divided_by_4_when_validation_stalls_and_the_best_model_is_kept():
    trainer = new_trainer(epochs=8, lr=30.0, clip=5.0)  # so large that it stalls
    losses, rates = [], []
    for result in trainer.run():
        if isinstance(result, EpochResult):
            valid_loss = evaluate(trainer.model, batchify(VALID, 10), 10)
            assert result.valid_loss == valid_loss
            assert result.improved == (valid_loss < min(losses, default=math.inf))
            losses.append(valid_loss)
            rates.append(result.lr)
    stalls = sum(losses[i] >= min(losses[:i]) for i in range(1, 7))
    assert 0 < stalls < 7
    assert rates[-1] == 30.0 / 4**stalls
    assert trainer.best_loss == min(losses)
    assert evaluate(trainer.best_model(), batchify(VALID, 10), 10) == min(losses)


def test_training_learns_a_text_that_repeats():
    text = torch.arange(5).repeat(200)  # 0 1 2 3 4 0 1 ...
    model = LSTMModel(ModelConfig(ntoken=5, ninp=8, nhid=8, nlayers=1, dropout=0), torch.Generator().manual_seed(0))
    trainer = Trainer(model, text, text, TrainConfig(epochs=6, batch_size=4, bptt=10, lr=5.0))
    losses = [result.valid_loss for result in trainer.run() if isinstance(result, EpochResult)]
    assert losses[-1] < 0.02 < losses[0] < math.log(5)


@pytest.mark.skipif("bfloat16" not in DTYPES, reason="torch does not train LSTMs in bfloat16 on this processor")
def test_bfloat16_changes_the_loss_slightly_and_keeps_float32_weights():
    trainer = new_trainer(dropout=0.0, dtype="bfloat16")
    loss, float32_loss = next(trainer.run()).loss, next(new_trainer(dropout=0.0).run()).loss
    assert loss != float32_loss
    assert loss == pytest.approx(float32_loss, abs=0.02)
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}


def test_each_process_has_its_own_dropout():
    first, second = new_trainer(), new_trainer()
    second.group.rank = 1
    assert next(first.run()).loss != next(second.run()).loss


def test_too_short_text_is_refused():
    with pytest.raises(ValueError, match="too short for 900 columns"):
        new_trainer(batch_size=900)
    with pytest.raises(ValueError, match="too little text: 400 columns of 400 tokens"):
        new_trainer(batch_size=400)


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
def test_config_out_of_range_is_refused(change):
    name, value = next(iter(change.items()))
    with pytest.raises(ValueError, match=rf"{name} must be .*found '?{value}"):
        TrainConfig(**change)


# Law 2.


FAST = {"bptt": 25, "lr": 0.1}  # four steps an epoch


@cache
def uninterrupted(optimizer, dtype):
    """Return a finished run and its results."""
    trainer = new_trainer(optimizer=optimizer, dtype=dtype, **FAST)
    return trainer, list(trainer.run())


@settings(max_examples=15)
@given(st.integers(0, 10), st.sampled_from(["sgd", "adamw"]), st.sampled_from(DTYPES))
def test_run_resumed_at_any_step_ends_with_the_same_bits(tmp_path_factory, step, optimizer, dtype):
    whole, expected = uninterrupted(optimizer, dtype)
    assert len(expected) == 10
    first = new_trainer(optimizer=optimizer, dtype=dtype, **FAST)
    results = list(islice(first.run(), step))
    path = tmp_path_factory.mktemp("run") / "state"
    torch.save(first.state(), path)
    second = new_trainer(optimizer=optimizer, dtype=dtype, **FAST)
    second.restore(read_tensors(path))
    results += second.run()
    assert results == expected
    assert have_equal_weights(second.model, whole.model)
    assert have_equal_weights(second.best_model(), whole.best_model())


# Law 3.


def test_epochs_lr_and_clip_may_change_but_nothing_else():
    trainer = new_trainer()
    list(trainer.run())
    state = trainer.state()
    longer = new_trainer(epochs=3, lr=0.5, clip=0.1)
    longer.restore(state)
    assert [result.lr for result in longer.run() if isinstance(result, EpochResult)] == [0.5]
    for change in ({"batch_size": 2}, {"seed": 1}, {"optimizer": "adamw"}, {"bptt": 5}, {"dropout": 0.1}):
        with pytest.raises(TrainingError, match=f"another run: its {next(iter(change))} is"):
            new_trainer(**change).restore(state)
    other = Trainer(LSTMModel(SHAPE), VALID, TRAIN, trainer.config)
    with pytest.raises(TrainingError, match="another run: its corpus is"):
        other.restore(state)


def test_fewer_epochs_than_finished_are_refused():
    trainer = new_trainer()
    list(trainer.run())
    with pytest.raises(TrainingError, match="it has 2 finished epochs, more than 1"):
        new_trainer(epochs=1).restore(trainer.state())


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": [1, 2]},
        {"position": [0, 1]},
        {"best": {}},
        {"model": {}},
        {"model": None},
        {"optimizer": {"state": 1}},
    ],
)
def test_state_with_a_damaged_part_is_refused(change):
    trainer = new_trainer()
    with pytest.raises(TrainingError, match="it is not the state of a run"):
        trainer.restore(trainer.state() | change)


@pytest.mark.parametrize("state", [None, {}, {"model_config": 3}, [1], {"model_config": {}, "train_config": {}}])
def test_something_else_than_a_state_is_refused(state):
    with pytest.raises(TrainingError, match="it is not the state of a run"):
        new_trainer().restore(state)


# Law 4.


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_loss_or_gradient_that_is_not_finite_stops_the_run_at_its_step(part):
    trainer = new_trainer()
    run = trainer.run()
    next(run), next(run)
    before = copy.deepcopy(trainer.state())
    if part == "loss":
        with torch.no_grad():
            trainer.model.decoder.bias[3] = math.nan
    else:
        trainer.model.encoder.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"epoch 1, step 3: the loss is .* lower the learning rate \(1\)"):
        next(run)
    resumed = new_trainer()
    resumed.restore(before)
    assert isinstance(next(resumed.run()), StepResult)


def test_validation_loss_that_is_not_finite_stops_the_run():
    trainer = new_trainer()
    run = trainer.run()
    for _ in range(trainer.steps):
        next(run)
    with torch.no_grad():
        trainer.model.decoder.bias[3] = math.nan
    with pytest.raises(TrainingError, match="epoch 1, step 10: the validation loss is nan: lower the learning rate"):
        next(run)
    with pytest.raises(TrainingError, match="epoch 1, step 10: a weight is not finite"):
        trainer.state()
