"""Laws of engines: the one that is asked for is used while quantizing, and torch's setting is restored."""

import pytest
import torch

from lstmq import SCHEMES, QuantizationError, batchify, evaluate, quantize
from strategies import random_ids


@pytest.mark.parametrize("engine", [name for name in torch.backends.quantized.supported_engines if name != "none"])
def test_quantize_uses_each_engine_and_restores_the_setting(model, engine):
    source = batchify(random_ids(30, 60, 0), 1)
    before = torch.backends.quantized.engine
    quantized = quantize(model, engine=engine)
    assert torch.backends.quantized.engine == before
    assert evaluate(quantized, source, 25) == pytest.approx(evaluate(model, source, 25), abs=0.02)


def test_quantize_sets_the_engine_and_restores_the_setting_after_an_error(model, monkeypatch):
    before, seen = torch.backends.quantized.engine, []
    other = next(name for name in torch.backends.quantized.supported_engines if name not in (before, "none"))

    def fail(*args, **options):
        seen.append(torch.backends.quantized.engine)
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.ao.quantization.quantize_dynamic", fail)
    with pytest.raises(KeyboardInterrupt):
        quantize(model, engine=other)
    assert seen == [other]
    assert torch.backends.quantized.engine == before


@pytest.mark.parametrize("scheme", SCHEMES)
def test_quantize_refuses_an_engine_that_torch_does_not_support(model, scheme):
    with pytest.raises(QuantizationError, match=r"no engine 'abacus' in torch .*: it has .*(x86|qnnpack)"):
        quantize(model, scheme, engine="abacus")
