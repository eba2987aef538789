"""Does a training step cost more than the forward, backward, clip and step that it needs?"""

import pytest
import torch
import torch.nn.functional as F

from lstmq import Corpus, LSTMModel, TrainConfig, Trainer, get_batch
from lstmq.comparison import clock
from lstmq.workload import load_text_subject, sample_folder


def bare_steps(model, source, config):
    """Train on a source with nothing around the arithmetic. Yields after every step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    model.train()
    hidden = model.init_hidden(source.shape[1])
    while True:
        for i in range(0, len(source) - 1, config.bptt):
            data, targets = get_batch(source, i, config.bptt)
            optimizer.zero_grad(set_to_none=True)
            logits, (h, c) = model(data, hidden)
            F.cross_entropy(logits.flatten(0, 1), targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            hidden = h.detach(), c.detach()
            yield


@pytest.mark.benchmark(group="train on a window of 20 x 35 tokens")
def test_trainer(benchmark, gate_judge_ratio, gate_facts):
    """On the small model of the sample, where the overhead is largest."""
    text, config = Corpus(sample_folder()), TrainConfig(epochs=1000, lr=0.1)
    shape = load_text_subject().model.config
    model, bare_model = (LSTMModel(shape, torch.Generator().manual_seed(0)) for _ in range(2))
    trainer = Trainer(model, text.train, text.valid[:40], config)
    run, bare_run = trainer.run(), bare_steps(bare_model, trainer.source, config)
    benchmark.extra_info.update(gate_facts, bptt=config.bptt, tokens=config.batch_size * config.bptt)
    gate_judge_ratio("train", "overhead", lambda _: next(run), lambda _: next(bare_run), clock=clock(), pairs=4)
