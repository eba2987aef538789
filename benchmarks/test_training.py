"""Is training as cheap as the forward, backward, clip and step that it cannot do without?"""

import pytest
import torch
import torch.nn.functional as F

from lstmq import Corpus, LSTMModel, get_batch
from lstmq.comparison.paired import clock
from lstmq.training.trainer import TrainConfig, Trainer
from lstmq.workload.loading import load_text_subject, sample_folder


def bare_steps(model, source, config):
    """Train on a source with nothing around the arithmetic; yields after every step."""
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


@pytest.mark.benchmark(group="train on a window of 20 x 35 tokens", timer=clock())
def test_trainer(benchmark, measure_ratio, facts, judge):
    """On the sample's small model, where whatever stands around the arithmetic shows most."""
    text, config = Corpus(sample_folder()), TrainConfig(epochs=1000, lr=0.1)
    shape = load_text_subject().model.config
    trainer, bare = (LSTMModel(shape, torch.Generator().manual_seed(0)) for _ in range(2))
    trainer = Trainer(trainer, text.train, text.valid[:40], config)
    run, bare_run = trainer.run(), bare_steps(bare, trainer.source, config)
    ratio = measure_ratio(lambda _: next(run), lambda _: next(bare_run), pairs=100)  # the more pairs, the less noise
    tokens = config.batch_size * config.bptt
    benchmark.extra_info.update(facts, bptt=config.bptt, tokens=tokens)
    benchmark.extra_info.update(tokens_per_second=tokens / benchmark.stats.stats.median)
    benchmark.extra_info.update(overhead=ratio.median, overhead_interval=[ratio.lower, ratio.upper])
    judge("train", overhead=ratio)
