"""Loads what is measured: the bundled sample, a corpus and a checkpoint, or a file of the user."""

from collections.abc import Sequence
from pathlib import Path

import torch

from lstmq.model import LanguageModel, LSTMModel, ModelConfig, load_checkpoint
from lstmq.quantization.native import is_native_file, load_native
from lstmq.quantization.onnx import read_onnx
from lstmq.text import batchify, next_words
from lstmq.workload.assets import CHECKPOINT, DATA, WIKITEXT_2
from lstmq.workload.corpora import check_vocabulary, describe_unknown, fetched, find_corpus, load_text
from lstmq.workload.custom import first_steps, keep_modules, load_user_workload
from lstmq.workload.subject import Subject, Workload

DEFAULT_TOKENS = 5_000  # each model of the default workload reads them in a few seconds
SAMPLE_CHECKPOINT = "lstm.safetensors"
SEED = 1111  # for weights that are only timed


def load_workload(
    corpus: Path | None = None,
    checkpoint: Path | None = None,
    vocabulary: Path | None = None,
    tokens: int | None = None,
    at_most: int | None = None,
    spec: str | None = None,
    keep: Sequence[str] = (),
) -> Workload:
    """Load what ``lstmq compare`` and the gate measure.

    With neither a corpus nor a checkpoint nor a spec, the workload is the default one: it times the tutorial's shape
    with seeded weights, and measures the loss of the bundled model on the bundled sample.

    Args:
        corpus: folder that :class:`~lstmq.Corpus` reads. The name ``wikitext-2`` also finds what ``lstmq fetch``
            downloaded, with the downloaded checkpoint as the default.
        checkpoint: float32 checkpoint that :func:`~lstmq.load_checkpoint` reads.
        vocabulary: corpus folder that the checkpoint was trained on, if it is not ``corpus``. Other words become
            ``<unk>``.
        tokens: number of tokens to read, from the start of the test split; at least 2, because the last token is a
            target only. The default workload times 5,000 tokens, and measures the loss of the whole split.
        at_most: largest number of tokens to read, if ``tokens`` is ``None``. The default workload ignores it.
        spec: ``FILE.py:FUNCTION``. The function takes no arguments and returns a :class:`~lstmq.Workload`. Here,
            ``tokens`` and ``at_most`` are steps to time, and a corpus, checkpoint or vocabulary is an error.
        keep: names of modules that stay float32 when a model is quantized; as for :func:`~lstmq.quantize`.

    Raises:
        ValueError: if a file is damaged, the checkpoint does not know the words of the corpus, the split is too short,
            or the function raises an error.
        OSError: if a file cannot be read.

    Example:
        >>> from lstmq import load_workload
        >>> workload = load_workload(tokens=100)
        >>> workload.speed.model.config.nhid, workload.loss.model.config.nhid
        (256, 96)
        >>> len(workload.speed.stream), len(workload.loss.stream)
        (99, 7882)
    """
    if spec is not None:
        if corpus or checkpoint or vocabulary:
            raise ValueError("a workload from a file has a model and a stream: omit corpus, checkpoint and vocabulary")
        return load_user_workload(spec, tokens, at_most, keep)
    if corpus or checkpoint:
        subject = load_text_subject(corpus, checkpoint, vocabulary, tokens, at_most)
        if not isinstance(subject.model, LSTMModel):
            raise ValueError(f"expected a float32 checkpoint to compare with, found {checkpoint}, which is quantized")
        return keep_modules(Workload(speed=subject, loss=subject), keep)
    loss = load_text_subject(vocabulary=vocabulary)
    config = ModelConfig()
    stream = first_steps(loss.stream, tokens, DEFAULT_TOKENS, of_words=True)
    speed = Subject(
        model=LSTMModel(config, torch.Generator().manual_seed(SEED)).eval(),
        dictionary=loss.dictionary,
        stream=stream,
        origin=f"the tutorial's shape, {_shape(config)}, seeded weights, on {len(stream) + 1:,} tokens of the sample",
    )
    return keep_modules(Workload(speed=speed, loss=loss), keep)


def load_text_subject(
    corpus: Path | None = None,
    checkpoint: Path | None = None,
    vocabulary: Path | None = None,
    tokens: int | None = None,
    at_most: int | None = None,
) -> Subject[LanguageModel]:
    """Load a checkpoint and the test split of a corpus. The default for both is the bundled sample.

    Args:
        corpus: as for :func:`load_workload`.
        checkpoint: float32 checkpoint, file that ``lstmq quantize`` wrote, or ``.onnx`` file that ``lstmq export``
            wrote. An ``.onnx`` file contains its words.
        vocabulary: as for :func:`load_workload`.
        tokens: as for :func:`load_workload`.
        at_most: as for :func:`load_workload`.

    Raises:
        ValueError: if a file is damaged, the checkpoint does not know the words of the corpus, or the split is too
            short.
        OSError: if a file cannot be read.
    """
    folder = find_corpus(corpus)
    checkpoint = checkpoint or _default_checkpoint(folder)
    exported = read_onnx(checkpoint) if checkpoint.suffix == ".onnx" else None
    words = exported.dictionary if exported else None
    text = load_text(folder, vocabulary, words)
    if exported:
        model: LanguageModel = exported.model
    elif is_native_file(checkpoint):
        model = load_native(checkpoint, text.dictionary)
    else:
        model = load_checkpoint(checkpoint).eval()
    check_vocabulary(checkpoint, model.config, text.dictionary, vocabulary or folder)
    stream = first_steps(next_words(batchify(text.test, 1)), tokens, at_most, of_words=True)
    model_name, text_name = (path.name if path.is_absolute() else path for path in (checkpoint, folder))
    what = f"{text_name}'s test split"
    origin = f"{model_name}, {_shape(model.config)}, on {len(stream) + 1:,} tokens of {what}"
    if unknown := describe_unknown(stream.targets, text.dictionary, what):
        origin += f", {unknown}"
    return Subject(model=model, dictionary=text.dictionary, stream=stream, origin=origin)


def _default_checkpoint(folder: Path) -> Path:
    """Return the downloaded checkpoint for the downloaded corpus, else the checkpoint in the folder of the corpus."""
    if str(folder) == WIKITEXT_2.name or folder.resolve() == WIKITEXT_2.path(DATA).resolve():
        return fetched(CHECKPOINT)
    if (folder / SAMPLE_CHECKPOINT).is_file():
        return folder / SAMPLE_CHECKPOINT
    raise ValueError(f"the corpus {folder} needs a checkpoint: pass one that was trained on its words")


def _shape(config: ModelConfig) -> str:
    return f"{config.ntoken}/{config.ninp}/{config.nhid}/{config.nlayers}"
