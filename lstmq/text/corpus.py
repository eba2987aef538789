"""Reads text as word ids: :class:`Dictionary` and :class:`Corpus`."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

EOS = "<eos>"  # ends each line
UNK = "<unk>"  # replaces unknown words
SPLITS = ("train", "valid", "test")
# The names in PyTorch's word language model example, and those that WikiText is published under.
FILE_NAMES = ("{}.txt", "wiki.{}.tokens", "wiki.{}.raw")
CHUNK_BYTES = 1 << 16  # lines longer than this are read in parts


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
    """The train, valid and test splits of a folder of text, as word ids.

    Words are separated by white space. Each line ends with the word ``<eos>``.

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


def _find_split(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise ValueError(f"no such corpus folder: {folder}")
    names = [name.format(split) for name in FILE_NAMES]
    found = [name for name in names if (folder / name).is_file()]
    if not found:
        raise ValueError(f"no {split} split in {folder}: expected {' or '.join(names)}")
    if len(found) > 1:
        raise ValueError(f"expected one {split} split in {folder}, found {', '.join(found)}")
    return folder / found[0]


def _read_ids(path: Path, to_idx: Callable[[str], int]) -> Tensor:
    """Return the ids of a file's words. Memory is eight bytes per token, because an array holds no int objects."""
    ids = array("q")
    with path.open("rb") as file:
        for words, is_line_end in _read_parts(path, file):
            ids.extend(map(to_idx, words))
            if is_line_end:
                ids.append(to_idx(EOS))
    if not ids:
        raise ValueError(f"{path} is empty: expected text")
    return torch.frombuffer(ids, dtype=torch.int64)  # shares the array's memory


def _read_parts(path: Path, file: IO[bytes]) -> Iterator[tuple[list[str], bool]]:
    """Yield the words of each line, and ``True``. A long line comes in several parts; only the last has ``True``."""
    offset = 0  # of the part, in bytes
    rest = b""  # the start of a word that the last chunk cut
    in_line = False
    while (chunk := file.readline(CHUNK_BYTES)) or in_line:
        part = rest + chunk
        in_line = len(chunk) == CHUNK_BYTES and not chunk.endswith(b"\n")
        # End the part after a space or a tab. In UTF-8, these bytes are never part of another character.
        end = 1 + max(part.rfind(b" "), part.rfind(b"\t")) if in_line else len(part)
        if not end and len(part) > CHUNK_BYTES:
            raise ValueError(f"{path} is not text: no space or tab in {CHUNK_BYTES:,} bytes after byte {offset:,}")
        try:
            yield part[:end].decode("utf-8").split(), not in_line
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {offset + error.start:,}") from None
        offset, rest = offset + end, part[end:]
