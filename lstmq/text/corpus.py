"""Text into word ids: :class:`Dictionary` and :class:`Corpus`."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

EOS = "<eos>"
UNK = "<unk>"
SPLITS = ("train", "valid", "test")
PIECE = 1 << 16  # bytes of a line that are read at once; a longer line must have a space or tab at least as often
# WikiText as the word language model example names it, as published, and as published before <unk> was put in.
FILE_NAMES = ("{}.txt", "wiki.{}.tokens", "wiki.{}.raw")


class Dictionary:
    """Words and their ids, one to one, in order of first sight.

    Args:
        words: added in this order.

    Attributes:
        word2idx: word to id.
        idx2word: id to word; ``idx2word[word2idx[word]] == word``.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.word2idx: dict[str, int] = {}
        self.idx2word: list[str] = []
        for word in words:
            self.add_word(word)

    def __len__(self) -> int:
        return len(self.idx2word)

    def add_word(self, word: str) -> int:
        """Return the id of ``word``, giving it the next free one at first sight."""
        idx = self.word2idx.get(word)
        if idx is None:
            idx = self.word2idx[word] = len(self.idx2word)
            self.idx2word.append(word)
        return idx

    def find(self, word: str) -> int:
        """Return the id of ``word``, or that of ``<unk>`` if the word is not here.

        Raises:
            ValueError: if neither the word nor ``<unk>`` is here.
        """
        idx = self.word2idx.get(word, self.word2idx.get(UNK))
        if idx is None:
            raise ValueError(f"the word {word!r} is not in the dictionary, and it has no {UNK} to stand for it")
        return idx


class Corpus:
    """The three splits of a folder of text, as streams of word ids.

    Words are what white space separates; every line ends in ``<eos>``.

    Args:
        folder: holds ``train.txt``, ``valid.txt`` and ``test.txt``, or the same splits under WikiText's published
            names (``wiki.train.tokens``, ...); UTF-8.
        dictionary: read the text with these words and no others: an unknown word becomes ``<unk>``.
            Without it, the dictionary grows over train, valid and test, in this order.

    Attributes:
        train, valid, test: int64, shape ``(tokens,)``.
        dictionary: the words the ids stand for.

    Raises:
        ValueError: if a split is missing, there twice, empty, or not UTF-8, or a word cannot be mapped.
    """

    def __init__(self, folder: str | Path, dictionary: Dictionary | None = None) -> None:
        self.dictionary = Dictionary() if dictionary is None else dictionary
        to_idx = self.dictionary.add_word if dictionary is None else self.dictionary.find
        paths = [_split_path(Path(folder), split) for split in SPLITS]
        self.train, self.valid, self.test = (_read(path, to_idx) for path in paths)


def _split_path(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise ValueError(f"no such corpus folder: {folder}")
    names = [name.format(split) for name in FILE_NAMES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise ValueError(f"no {split} split in {folder}: expected {' or '.join(names)}")
    if len(found) > 1:
        raise ValueError(f"{folder} holds the {split} split {len(found)} times: {', '.join(p.name for p in found)}")
    return found[0]


def _read(path: Path, to_idx: Callable[[str], int]) -> Tensor:
    """Return the ids of the file's words in one pass, with eight bytes a token: no list of ints is ever held."""
    ids = array("q")
    with path.open("rb") as file:
        for words, ends in _pieces(path, file):
            ids.extend(map(to_idx, words))
            if ends:
                ids.append(to_idx(EOS))
    if not ids:
        raise ValueError(f"{path} is empty: expected text, a sentence or paragraph a line")
    return torch.frombuffer(ids, dtype=torch.int64)  # shares the array's memory


def _pieces(path: Path, file: IO[bytes]) -> Iterator[tuple[list[str], bool]]:
    """Yield the words of each line, a long line in pieces, and whether the line ends with the piece."""
    offset, rest, inside = 0, b"", False  # of the piece, in bytes; what the last one left; whether in a line
    while (chunk := file.readline(PIECE)) or inside:
        piece = rest + chunk
        inside = len(chunk) == PIECE and not chunk.endswith(b"\n")
        # Never cut inside a word: the byte of a space or tab is part of no other character in UTF-8.
        cut = 1 + max(piece.rfind(b" "), piece.rfind(b"\t")) if inside else len(piece)
        if not cut and len(piece) > PIECE:
            raise ValueError(f"{path} is no text: no space or tab in {PIECE:,} bytes from byte {offset:,} on")
        try:
            yield piece[:cut].decode("utf-8").split(), not inside
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {offset + error.start:,}") from None
        offset, rest = offset + cut, piece[cut:]
