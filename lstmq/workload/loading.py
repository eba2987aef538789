"""What a measurement runs on, loaded: the embedded default, a corpus and a checkpoint, or something of your own."""

from pathlib import Path

import torch

from lstmq.model import LanguageModel, LSTMModel, ModelConfig, load_checkpoint
from lstmq.quantization.native import is_native_file, load_native
from lstmq.quantization.onnx import read_onnx
from lstmq.text import Corpus, Stream, batchify, next_words
from lstmq.workload import assets
from lstmq.workload.custom import load_user_workload
from lstmq.workload.subject import Subject, Workload

DEFAULT_TOKENS = 5_000  # timed with the embedded default: some seconds for each model
SAMPLE_CHECKPOINT = "lstm.safetensors"
SEED = 1111  # of the weights that are only timed


def sample_folder() -> Path:
    """Return the folder of the embedded sample: inside an installed package, or in a checkout's ``data/``."""
    installed = Path(__file__).parents[1] / "sample"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "data" / "sample"


def find_corpus(corpus: Path | None) -> Path:
    """Return the folder that ``corpus`` means: the sample's if ``None``, the fetched one's if it is called so.

    Raises:
        ValueError: if the fetched one is meant, and is not here.
    """
    if corpus is None:
        return sample_folder()
    if str(corpus) != assets.WIKITEXT_2.name or corpus.is_dir():
        return corpus
    return _fetched(assets.WIKITEXT_2)


def _checkpoint_of(folder: Path) -> Path:
    """Return the checkpoint of the fetched corpus, or the one that lies beside the text as it does in the sample."""
    if str(folder) == assets.WIKITEXT_2.name or folder.resolve() == assets.WIKITEXT_2.path(assets.DATA).resolve():
        return _fetched(assets.CHECKPOINT)
    if (folder / SAMPLE_CHECKPOINT).is_file():
        return folder / SAMPLE_CHECKPOINT
    raise ValueError(f"the corpus {folder} needs a checkpoint of a model that was trained on its words")


def _fetched(asset: assets.Asset) -> Path:
    path = asset.path(assets.DATA)
    if not path.exists():
        raise ValueError(f"no {path} here, which the name {assets.WIKITEXT_2.name} means: run `lstmq fetch` first")
    return path


def load_workload(
    corpus: Path | None = None,
    checkpoint: Path | None = None,
    vocabulary: Path | None = None,
    tokens: int | None = None,
    at_most: int | None = None,
    spec: str | None = None,
) -> Workload:
    """Load what ``compare`` and the benchmarks run on.

    Args:
        corpus: as for :func:`load_subject`. With neither a corpus nor a checkpoint, the embedded default.
        checkpoint: likewise.
        vocabulary: likewise.
        tokens: as for :func:`load_subject`; of the embedded default, how many are timed, 5,000 if not given.
            Its loss is always that of the whole sample.
        at_most: as for :func:`load_subject`; of no concern to the embedded default.
        spec: the ``FILE.py:FUNCTION`` of a workload of your own, as for :func:`lstmq.custom.load_custom`. It brings
            its model and stream: no corpus, checkpoint or vocabulary.
    """
    if spec is not None:
        if corpus or checkpoint or vocabulary:
            raise ValueError("a workload of your own brings its model and stream: no corpus, checkpoint or vocabulary")
        return load_user_workload(spec, tokens, at_most)
    if corpus or checkpoint:
        subject = load_text_subject(corpus, checkpoint, vocabulary, tokens, at_most)
        if not isinstance(subject.model, LSTMModel):
            raise ValueError(f"expected a float32 checkpoint to compare with, found {checkpoint}, which is not")
        return Workload(speed=subject, loss=subject)
    loss = load_text_subject(vocabulary=vocabulary)
    config = ModelConfig()
    stream = _head(loss.stream, tokens, DEFAULT_TOKENS)
    speed = Subject(
        model=LSTMModel(config, torch.Generator().manual_seed(SEED)).eval(),
        dictionary=loss.dictionary,
        stream=stream,
        origin=f"the tutorial's shape, {_shape(config)}, seeded weights, on {len(stream) + 1:,} tokens of the sample",
    )
    return Workload(speed=speed, loss=loss)


def load_text_subject(
    corpus: Path | None = None,
    checkpoint: Path | None = None,
    vocabulary: Path | None = None,
    tokens: int | None = None,
    at_most: int | None = None,
) -> Subject[LanguageModel]:
    """Load a checkpoint and the test split of a corpus; without either, those of the embedded sample.

    Args:
        corpus: a folder that :class:`~lstmq.Corpus` reads, or the name ``wikitext-2``: a folder of that name in the
            current one, else what ``lstmq fetch`` put there, with the fetched checkpoint if none is given.
        checkpoint: a file that :func:`lstmq.checkpoint.load` reads, or :func:`lstmq.stored.load`; or, by its suffix
            ``.onnx``, one that :func:`lstmq.exports.read` reads, which brings its words.
        vocabulary: the corpus folder whose words the checkpoint knows, if it is not ``corpus`` and the file does not
            bring them: words that it does not know become ``<unk>``.
        tokens: only the first so many of the test split, at least 2; all of them if not given.
        at_most: the most that are taken if ``tokens`` is not given.

    Raises:
        ValueError: if checkpoint and words do not fit, the split has fewer tokens, or a file is not as expected.
        OSError: if a file cannot be read.
    """
    folder = find_corpus(corpus)
    checkpoint = checkpoint or _checkpoint_of(folder)
    exported = read_onnx(checkpoint) if checkpoint.suffix == ".onnx" else None
    words = exported.dictionary if exported else None
    text = Corpus(folder, Corpus(find_corpus(vocabulary)).dictionary if vocabulary else words)
    if exported:
        model: LanguageModel = exported.model
    elif is_native_file(checkpoint):
        model = load_native(checkpoint, text.dictionary)
    else:
        model = load_checkpoint(checkpoint).eval()
    if model.config.ntoken != len(text.dictionary):
        raise ValueError(
            f"{checkpoint} is of another vocabulary: it knows {model.config.ntoken:,} words, "
            f"{vocabulary or folder} has {len(text.dictionary):,}"
        )
    stream = _head(next_words(batchify(text.test, 1)), tokens, at_most)
    model_is, text_is = (path.name if path.is_absolute() else path for path in (checkpoint, folder))
    origin = f"{model_is}, {_shape(model.config)}, on {len(stream) + 1:,} tokens of {text_is}'s test split"
    return Subject(model=model, dictionary=text.dictionary, stream=stream, origin=origin)


def _head(stream: Stream, tokens: int | None, at_most: int | None) -> Stream:
    there = len(stream) + 1  # the last is a target only
    if tokens is None:
        tokens = min(at_most or there, there)
    elif not 2 <= tokens <= there:
        raise ValueError(f"the test split holds {there:,} tokens: expected 2 to that many, found {tokens:,}")
    return stream.slice(0, tokens - 1)


def _shape(config: ModelConfig) -> str:
    return f"{config.ntoken}/{config.ninp}/{config.nhid}/{config.nlayers}"
