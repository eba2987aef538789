"""Reads text as word ids: :class:`Dictionary` and :class:`Corpus`."""

from array import array
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from lstmq.text.reading import read_words

EOS = "<eos>"  # ends each line
UNK = "<unk>"  # replaces unknown words
SPLITS = ("train", "valid", "test")
# The names in PyTorch's word language model example, and those that WikiText is published under.
FILE_NAMES = ("{}.txt", "wiki.{}.tokens", "wiki.{}.raw")


class Dictionary:
    """Words and their ids. Ids are consecutive, in the order in which the words are added.

    Args:
        words: the first words to add.

    Attributes:
        word2idx: maps each word to its id.
        idx2word: lists the words by id.

    Example:
        >>> from lstmq import Dictionary
        >>> dictionary = Dictionary(["the", "seal", "the"])
        >>> dictionary.word2idx
        {'the': 0, 'seal': 1}
        >>> dictionary.idx2word
        ['the', 'seal']
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.word2idx: dict[str, int] = {}
        self.idx2word: list[str] = []
        for word in words:
            self.add_word(word)

    def __len__(self) -> int:
        return len(self.idx2word)

    def add_word(self, word: str) -> int:
        """Return the id of a word. A new word gets the next free id."""
        idx = self.word2idx.get(word)
        if idx is None:
            idx = self.word2idx[word] = len(self.idx2word)
            self.idx2word.append(word)
        return idx

    def find(self, word: str) -> int:
        """Return the id of a word, or of ``<unk>`` if the word is unknown.

        Raises:
            ValueError: if the dictionary has neither.

        Example:
            >>> from lstmq import Dictionary
            >>> Dictionary(["<unk>", "seal"]).find("walrus")
            0
        """
        idx = self.word2idx.get(word, self.word2idx.get(UNK))
        if idx is None:
            raise ValueError(f"the word {word!r} is not in the dictionary, and there is no {UNK} to replace it")
        return idx


class Corpus:
    r"""The train, valid and test splits of a folder of text, as word ids.

    The ids are those of the tutorial's code: Python's universal newlines (``\n``, ``\r\n`` and ``\r``) end lines, any
    Unicode white space separates words, and each line ends with the word ``<eos>``. A byte order mark at the start of
    a file is removed, with a warning of the category :class:`~lstmq.errors.InputNote`.

    Args:
        folder: contains ``train.txt``, ``valid.txt`` and ``test.txt`` in UTF-8. The names that WikiText is published
            under work too: ``wiki.train.tokens`` or ``wiki.train.raw``, and so on.
        dictionary: reads the text with these words only; unknown words become ``<unk>``. Without it, the corpus makes
            a dictionary of the words in train, valid and test, in this order.

    Attributes:
        train, valid, test: int64 ids, shape ``(tokens,)``.
        dictionary: the words of the ids.

    Raises:
        ValueError: if a split is missing, ambiguous, empty or not UTF-8, or a word is not in the dictionary.
        OSError: if a split is not a regular file, or cannot be read.

    Example:
        >>> from lstmq import Corpus
        >>> corpus = Corpus("data/sample")
        >>> len(corpus.dictionary)
        2750
        >>> corpus.test.shape
        torch.Size([7883])
        >>> [corpus.dictionary.idx2word[idx] for idx in corpus.test[:5]]
        ['<eos>', '=', 'Kezzora', 'geirnica', '=']
    """

    def __init__(self, folder: str | Path, dictionary: Dictionary | None = None) -> None:
        self.dictionary = Dictionary() if dictionary is None else dictionary
        to_idx = self.dictionary.add_word if dictionary is None else self.dictionary.find
        paths = [_find_split(Path(folder), split) for split in SPLITS]
        self.train, self.valid, self.test = (_read_ids(path, to_idx) for path in paths)


def unknown_share(ids: Tensor, dictionary: Dictionary) -> float | None:
    """Return which share of the ids is ``<unk>``; ``None`` if the dictionary has no such word.

    Args:
        ids: int64, any shape but empty.
        dictionary: the words of the ids.
    """
    unknown = dictionary.word2idx.get(UNK)
    return None if unknown is None else int((ids == unknown).sum()) / ids.numel()


def _find_split(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise ValueError(f"no such corpus folder: {folder}")
    names = [name.format(split) for name in FILE_NAMES]
    found = [name for name in names if (folder / name).exists()]
    if not found:
        raise ValueError(f"no {split} split in {folder}: expected {' or '.join(names)}")
    if len(found) > 1:
        raise ValueError(f"expected one {split} split in {folder}, found {', '.join(found)}")
    return folder / found[0]


def _read_ids(path: Path, to_idx: Callable[[str], int]) -> Tensor:
    """Return the ids of a file's words. Memory is eight bytes per token, because an array holds no int objects."""
    ids = array("q")
    for words, is_line_end in read_words(path):
        ids.extend(map(to_idx, words))
        if is_line_end:
            ids.append(to_idx(EOS))
    return torch.frombuffer(ids, dtype=torch.int64)  # shares the array's memory
