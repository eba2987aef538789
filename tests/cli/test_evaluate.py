"""Laws of ``lstmq evaluate``: it prints the loss and the perplexity that ``evaluate`` computes for the scheme."""

import math
import re

import pytest

from lstmq import evaluate, quantize
from lstmq.workload.loading import load_text_subject


def test_evaluate_prints_loss_and_perplexity(run, model_files):
    result = run("evaluate", *model_files)
    loss, perplexity = re.search(r"loss (3\.4\d+) nats per token, perplexity (\d+\.\d\d)\n", result.output).groups()
    assert float(perplexity) == pytest.approx(math.exp(float(loss)), abs=0.01)


def test_evaluate_without_options_reads_the_whole_test_split_of_the_sample(run):
    result = run("evaluate")
    assert result.exit_code == 0, result.output
    assert (
        "float32: lstm.safetensors, 2750/96/96/2, on 7,883 tokens of sample's test split, 2.7% <unk>\n" in result.output
    )


@pytest.mark.parametrize("scheme", ["float32", "int8", "bf16"])
def test_evaluate_prints_the_loss_of_the_scheme(run, scheme):
    subject = load_text_subject(tokens=500)
    model = subject.model if scheme == "float32" else quantize(subject.model, scheme)
    result = run("evaluate", "--scheme", scheme, "--tokens", 500)
    assert f"{scheme}: {subject.origin}\nloss {evaluate(model, subject.stream, 25):.6f} nats" in result.output
