"""What a comparison returns: :class:`Comparison`, and a :class:`ComparisonRow` for each model."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lstmq.model import ModelSize, perplexity
from lstmq.quantization import Coverage


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """The median of paired ratios, and the quartiles that enclose half of them.

    Attributes:
        median: the median.
        lower: the first quartile.
        upper: the third quartile.
    """

    median: float
    lower: float
    upper: float

    @classmethod
    def of_pairs(cls, numerators: Sequence[float], denominators: Sequence[float]) -> "Quartiles":
        """Divide pair by pair, so that a slow moment of the machine affects both sides of its pair."""
        ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
        lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return cls(median=median, lower=lower, upper=upper)


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """The figures of one model in a comparison.

    Attributes:
        name: ``float32`` or the scheme.
        size: serialised bytes.
        loss: nats per token.
        tokens: number of timed tokens.
        seconds: time for these tokens, on :func:`clock`.
        speedup: seconds of float32 over those of this model, window by window.
        size_ratio: bytes of float32 over those of this model.
        loss_difference: loss of this model minus that of float32.
        setup_seconds: wall time to build the model and to read the first window, before the timing starts.
        in_nats: whether the loss is a cross-entropy, which has a perplexity.
        coverage: which modules the scheme replaced, and which stayed float32; ``None`` for float32.
        us_per_word: microseconds per word when the model reads one word at a time, as
            :func:`~lstmq.comparison.words.measure_words` measures it; ``None`` if it cannot.
    """

    name: str
    size: ModelSize
    loss: float
    tokens: int
    seconds: float
    speedup: Quartiles
    size_ratio: float
    loss_difference: float
    setup_seconds: float
    in_nats: bool = True
    coverage: Coverage | None = None
    us_per_word: float | None = None

    @property
    def perplexity(self) -> float | None:
        """``exp(loss)``, or ``None`` if the loss is not a cross-entropy."""
        return perplexity(self.loss) if self.in_nats else None

    @property
    def tokens_per_second(self) -> float:
        """Timed tokens per second."""
        return self.tokens / self.seconds


class Comparison(list[ComparisonRow]):
    """The row of float32, then the rows of the schemes, the slowest first.

    Attributes:
        left_out: why there is no row for the other schemes, by scheme.
        mkldnn_off: the speed of float32 with ``torch.backends.mkldnn.enabled = False`` over its speed as it is;
            ``None`` if this torch has no mkldnn.
        us_per_word: microseconds per word of what has no row, by name: float32 in other settings, and reading the
            weights of int8-native without computing.
    """

    def __init__(
        self,
        rows: Sequence[ComparisonRow],
        left_out: dict[str, str],
        mkldnn_off: float | None,
        us_per_word: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(rows)
        self.left_out, self.mkldnn_off, self.us_per_word = left_out, mkldnn_off, dict(us_per_word or {})
