"""Reads the words of a text file, line by line, as PyTorch's tutorial does: :func:`read_words`."""

import codecs
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from lstmq.errors import InputNote
from lstmq.file_kinds import LFS_POINTER, describe_binary, describe_text, read_start
from lstmq.files import check_input

PART = 1 << 13  # characters; longer lines are read in parts
LONGEST_WORD = 1 << 26  # characters; a file with a longer one is no text


def read_words(path: Path) -> Iterator[tuple[list[str], bool]]:
    r"""Yield the words of each line of a file, and ``True``.

    Python's universal newlines (``\n``, ``\r\n`` and ``\r``) end lines, and any Unicode white space separates words. A
    byte order mark at the start is removed, with a warning of the category :class:`~lstmq.errors.InputNote`. A long
    line comes in several parts; all but the last come with ``False``.

    Raises:
        ValueError: if the file is empty or not UTF-8.
        OSError: if it is not a regular file, or cannot be read.
    """
    check_input(path)
    start = read_start(path)
    if start.startswith(LFS_POINTER):
        raise ValueError(f"{path}: expected text, found {describe_text(start)}")
    mark = codecs.BOM_UTF8 if start.startswith(codecs.BOM_UTF8) else b""
    if start == mark:
        raise ValueError(f"{path} is empty: expected text")
    if mark:
        warnings.warn(f"{path}: removed the byte order mark at its start", InputNote, stacklevel=2)
    with path.open(encoding="utf-8-sig" if mark else "utf-8") as file:
        try:
            yield from _read_parts(path, file)
        except UnicodeDecodeError as error:
            found = describe_binary(start) or "save it as UTF-8"
            place = f"{error.reason} at byte {_first_bad_byte(path):,}"
            raise ValueError(f"{path} is not UTF-8: {place}; {found}") from None


def _read_parts(path: Path, file: TextIO) -> Iterator[tuple[list[str], bool]]:
    pieces: list[str] = []  # of a word that the end of a part has cut
    in_line = False
    while (part := file.readline(PART)) or in_line:
        in_line = len(part) == PART and not part.endswith("\n")
        end = _whole_words_end(part) if in_line else len(part)
        if end or not in_line:
            yield "".join([*pieces, part[:end]]).split(), not in_line
            pieces = []
        pieces.append(part[end:])
        if len(pieces) * PART > LONGEST_WORD:
            raise ValueError(f"{path} is not text: no white space in {LONGEST_WORD:,} characters")


def _whole_words_end(part: str) -> int:
    """Return where the words end that are whole. The word after them may go on in the next part."""
    return len(part) if part[-1].isspace() else len(part) - len(part.rsplit(None, 1)[-1])


def _first_bad_byte(path: Path) -> int:
    """Return the offset of the first byte of a file that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        while True:
            offset = file.tell() - len(decoder.getstate()[0])  # it keeps the start of a character that was cut
            chunk = file.read(1 << 16)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return offset + error.start
