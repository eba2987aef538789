"""A word-level LSTM language model in float32 and in int8, and what it takes to compare the two."""

from lstmq.batching import batchify, get_batch
from lstmq.corpus import Corpus, Dictionary
from lstmq.errors import QuantizationError
from lstmq.evaluation import evaluate, perplexity
from lstmq.generation import generate
from lstmq.model import Hidden, LanguageModel, LSTMModel, ModelConfig, repackage_hidden
from lstmq.quantization import SCHEMES, Scheme, quantize
from lstmq.size import ModelSize, model_size
from lstmq.streams import Stream, next_words
from lstmq.subjects import Subject, Workload

__version__ = "0.1.0"

__all__ = [
    "SCHEMES",
    "Corpus",
    "Dictionary",
    "Hidden",
    "LSTMModel",
    "LanguageModel",
    "ModelConfig",
    "ModelSize",
    "QuantizationError",
    "Scheme",
    "Stream",
    "Subject",
    "Workload",
    "batchify",
    "evaluate",
    "generate",
    "get_batch",
    "model_size",
    "next_words",
    "perplexity",
    "quantize",
    "repackage_hidden",
]
