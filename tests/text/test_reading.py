"""Laws of reading text.

1. What the tutorial's code reads has the ids that the tutorial's code gives it, whatever its line ends, its white space
   and the length of its lines.
2. Anything else is refused in one line that names the file and says what it is.
"""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import Corpus
from lstmq.errors import InputNote
from lstmq.text import reading
from strategies import texts

# What str.split() and str.splitlines() know, and what universal newlines know.
SEPARATORS = ["\n", "\r", "\r\n", *" \t\v\f\x1c\x1d\x1e\x1f\x85\xa0", *"\u1680\u2000\u2028\u2029\u202f\u205f\u3000"]
FOREIGN = ["\0", "\x1b", "\u200b", "\ufeff", "é", "語", "\U0001f600"]  # not white space, of 1 to 4 bytes
mixed_texts = st.lists(
    st.sampled_from([*SEPARATORS, *FOREIGN, "a", "bc", "<eos>", "<unk>"]) | st.characters(codec="utf-8"), max_size=40
).map("".join)
splits = mixed_texts.filter(lambda text: text and text[0] != "\ufeff")  # not empty, and without a byte order mark


def tutorial_ids(paths):
    """Return the ids of each file and the words, as the corpus class of PyTorch's tutorial would."""
    numbers, splits = {}, []
    for path in paths:
        ids = []
        with open(path, encoding="utf8") as lines:  # noqa: PTH123  # as the tutorial does
            for line in lines:
                ids += [numbers.setdefault(word, len(numbers)) for word in [*line.split(), "<eos>"]]
        splits.append(ids)
    return splits, list(numbers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that the examples of a property test write to one after the other."""
    return tmp_path_factory.mktemp("corpus")


def write(folder, *splits):
    """Write the three splits, each as bytes or text, and return their paths."""
    paths = [folder / f"{name}.txt" for name in ("train", "valid", "test")]
    for path, text in zip(paths, splits, strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return paths


def assert_as_in_the_tutorial(folder, *splits):
    ids, words = tutorial_ids(write(folder, *splits))
    corpus = Corpus(folder)
    assert [split.tolist() for split in (corpus.train, corpus.valid, corpus.test)] == ids
    assert corpus.dictionary.idx2word == words


@settings(max_examples=300)
@given(splits, splits, splits, st.sampled_from([1, 2, 3, 7, 1 << 13]))
def test_corpus_has_the_ids_of_the_tutorial_whatever_the_text_and_the_length_of_a_part(
    folder, train, valid, test, part
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART", part)
        assert_as_in_the_tutorial(folder, train, valid, test)


@pytest.mark.parametrize("separator", ["\u3000", " ", "\r", "\x85", ""])
def test_corpus_has_the_ids_of_the_tutorial_for_long_lines_and_words(folder, separator):
    assert_as_in_the_tutorial(folder, separator.join(["word", "語"] * 50_000), "x", "x")


def test_corpus_has_the_ids_of_the_tutorial_for_one_very_long_word(folder):
    assert_as_in_the_tutorial(folder, "a " + "b" * 3_000_000, "x", "x")


def test_byte_order_mark_is_removed_with_a_note_from_the_start_only(folder):
    write(folder, "x", "\ufeffa\ufeff b", "x")
    with pytest.warns(InputNote, match=r"valid.txt: removed the byte order mark at its start$"):
        corpus = Corpus(folder)
    assert corpus.dictionary.idx2word == ["x", "<eos>", "a\ufeff", "b"]


@settings(max_examples=20)
@given(
    texts, st.sampled_from([b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xe8\xaa"]), st.booleans()
)
def test_offset_of_invalid_utf_8_is_named(folder, text, invalid, is_last):
    head = "".join(" ".join(line) + "\n" for line in text).encode() * 20
    write(folder, "x", "x", head + b"some " + invalid + (b"" if is_last else b" more\n"))
    with pytest.raises(ValueError, match=rf"test.txt is not UTF-8: .* at byte {len(head) + 5:,}\b"):
        Corpus(folder)


def test_offset_counts_bytes_across_the_chunks_that_are_read(folder):
    write(folder, "x", "x", "語".encode() * 30_000 + b"\xff")
    with pytest.raises(ValueError, match=r"at byte 90,000; save it as UTF-8$"):
        Corpus(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "test.txt is empty: expected text"),
        (b"\xef\xbb\xbf", "test.txt is empty: expected text"),
        ("some text".encode("utf-16"), "is not UTF-8: invalid start byte at byte 0; text in UTF-16: save it as UTF-8"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "is not UTF-8: invalid start byte at byte 1; a gzip file: unpack it first"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "expected text, found a Git LFS pointer, .*pull",
        ),
    ],
)
def test_file_that_is_no_text_is_named_as_what_it_is(folder, content, message):
    write(folder, "x", "x", content)
    with pytest.raises(ValueError, match=message):
        Corpus(folder)


def test_word_that_is_too_long_to_be_one_is_refused(folder, monkeypatch):
    monkeypatch.setattr(reading, "LONGEST_WORD", 100_000)
    write(folder, "x", "x", b"some\nfew words " + bytes(300_000))
    with pytest.raises(ValueError, match=r"test.txt is not text: no white space in 100,000 characters"):
        Corpus(folder)


def test_split_that_is_a_pipe_or_a_device_is_refused_without_reading_it(tmp_path):
    _, valid, test = write(tmp_path, "x", "x", "x")
    test.unlink()
    os.mkfifo(test)
    with pytest.raises(OSError, match=r"test.txt: expected a file, found a pipe"):
        Corpus(tmp_path)
    valid.unlink()
    valid.symlink_to(Path(os.devnull))
    with pytest.raises(OSError, match=r"valid.txt: expected a file, found a device"):
        Corpus(tmp_path)
