"""Finds corpora, and reads them in the words of a model."""

import warnings
from pathlib import Path

from torch import Tensor

from lstmq.errors import InputWarning
from lstmq.model import ModelConfig
from lstmq.text import Corpus, Dictionary, unknown_share
from lstmq.workload.assets import DATA, WIKITEXT_2, Asset

MANY_UNKNOWN = 0.5  # share of <unk> above which a loss says little


def load_text(folder: Path, vocabulary: Path | None, words: Dictionary | None = None) -> Corpus:
    """Return a corpus in the words that a model knows.

    Args:
        folder: the text.
        vocabulary: the corpus that the model was trained on, as for :func:`find_corpus`.
        words: the words, if there is no ``vocabulary``. With neither, they are those of the text.

    Raises:
        ValueError: if a split is missing, damaged or empty.
        OSError: if a file cannot be read.
    """
    return Corpus(folder, Corpus(find_corpus(vocabulary)).dictionary if vocabulary else words)


def check_vocabulary(checkpoint: Path, config: ModelConfig, dictionary: Dictionary, source: Path) -> None:
    """Check that a model knows as many words as a dictionary has.

    Raises:
        ValueError: if it does not. The message names the files.
    """
    if config.ntoken != len(dictionary):
        raise ValueError(
            f"{checkpoint} is of another vocabulary: it knows {config.ntoken:,} words, {source} has "
            f"{len(dictionary):,}: name the corpus that it was trained on with --vocabulary"
        )


def describe_unknown(ids: Tensor, dictionary: Dictionary, what: str) -> str:
    """Return which share of the ids is ``<unk>``, in words; empty if the dictionary has no such word.

    Above one half, it also warns, in the category :class:`~lstmq.errors.InputWarning`.
    """
    if (share := unknown_share(ids, dictionary)) is None:
        return ""
    if share > MANY_UNKNOWN:
        warnings.warn(f"{share:.1%} of {what} is <unk>, so a loss says little about it", InputWarning, stacklevel=3)
    return f"{share:.1%} <unk>"


def find_corpus(corpus: Path | None) -> Path:
    """Return the folder of a corpus.

    Args:
        corpus: a folder; ``wikitext-2`` for the downloaded corpus, unless the current folder has one of this name;
            ``None`` for the bundled sample.

    Raises:
        ValueError: if ``wikitext-2`` was not downloaded.
    """
    if corpus is None:
        return sample_folder()
    if str(corpus) != WIKITEXT_2.name or corpus.is_dir():
        return corpus
    return fetched(WIKITEXT_2)


def sample_folder() -> Path:
    """Return the folder of the bundled sample, in the installed package or in ``data/`` of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "sample"
    return installed if installed.is_dir() else package.parent / "data" / "sample"


def fetched(asset: Asset) -> Path:
    """Return the path of a downloaded file or folder.

    Raises:
        ValueError: if it was not downloaded.
    """
    path = asset.path(DATA)
    if not path.exists():
        raise ValueError(f"no such file or folder: {path}. To use {WIKITEXT_2.name}, run `lstmq fetch` first")
    return path
