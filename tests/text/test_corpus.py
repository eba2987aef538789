"""Laws of the dictionary and the corpus.

1. A dictionary is a bijection, in order of first sight.
2. A corpus read, written and read again is the same.
3. With a dictionary given, no word is added: what it does not know is ``<unk>``.
"""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmq import Corpus, Dictionary
from lstmq.text.corpus import PIECE
from strategies import lines, texts, words


def write(folder, train, valid, test, name="{}.txt"):
    folder.mkdir(exist_ok=True)
    for split, text in zip(("train", "valid", "test"), (train, valid, test), strict=True):
        (folder / name.format(split)).write_text("".join(" ".join(line) + "\n" for line in text), encoding="utf-8")
    return folder


@given(st.lists(words))
def test_a_dictionary_is_a_bijection_in_order_of_first_sight(text):
    dictionary = Dictionary()
    ids = [dictionary.add_word(word) for word in text]
    assert dictionary.idx2word == list(dict.fromkeys(text))
    assert [dictionary.idx2word[idx] for idx in ids] == text
    assert all(dictionary.word2idx[word] == idx for idx, word in enumerate(dictionary.idx2word))
    assert len(dictionary) == len(dictionary.word2idx) == len(dictionary.idx2word)


@given(texts, texts, texts)
def test_the_ids_spell_the_text(tmp_path_factory, train, valid, test):
    corpus = Corpus(write(tmp_path_factory.mktemp("corpus"), train, valid, test))
    for ids, text in ((corpus.train, train), (corpus.valid, valid), (corpus.test, test)):
        assert ids.dtype == torch.int64
        assert ids.dim() == 1
        assert [corpus.dictionary.idx2word[i] for i in ids] == [word for line in text for word in (*line, "<eos>")]


@given(texts, texts, texts)
def test_a_corpus_read_and_written_back_is_the_same(tmp_path_factory, train, valid, test):
    first = Corpus(write(tmp_path_factory.mktemp("corpus"), train, valid, test))
    again = tmp_path_factory.mktemp("again")
    for split in ("train", "valid", "test"):
        spelled = [first.dictionary.idx2word[i] for i in getattr(first, split)]
        text = "".join("\n" if word == "<eos>" else f" {word}" for word in spelled)
        (again / f"{split}.txt").write_text(text, encoding="utf-8")
    # A text may hold the word <eos> itself, which reads back as an end of line; the ids are the same all the same.
    second = Corpus(again)
    assert second.dictionary.idx2word == first.dictionary.idx2word
    assert all(torch.equal(getattr(first, split), getattr(second, split)) for split in ("train", "valid", "test"))


@given(texts, lines)
def test_with_a_given_dictionary_unknown_words_become_unk(tmp_path_factory, text, known):
    dictionary = Dictionary(["<unk>", "<eos>", *known])
    before = list(dictionary.idx2word)
    corpus = Corpus(write(tmp_path_factory.mktemp("corpus"), text, text, text), dictionary)
    assert corpus.dictionary is dictionary
    assert dictionary.idx2word == before
    spelled = [before[i] for i in corpus.test]
    assert spelled == [word if word in {*known, "<eos>"} else "<unk>" for line in text for word in (*line, "<eos>")]


def test_without_unk_an_unknown_word_is_named(tmp_path):
    folder = write(tmp_path / "corpus", [["one"]], [["two"]], [["one"]])
    with pytest.raises(ValueError, match=r"'two'.*<unk>"):
        Corpus(folder, Dictionary(["one", "<eos>"]))


@pytest.mark.parametrize("name", ["{}.txt", "wiki.{}.tokens", "wiki.{}.raw"])
def test_wikitexts_file_names_are_known(tmp_path, name):
    corpus = Corpus(write(tmp_path / "corpus", [["a", "b"]], [["c"]], [["a"]], name))
    assert corpus.dictionary.idx2word == ["a", "b", "<eos>", "c"]


def test_lines_end_at_newlines_alone_and_words_at_any_white_space(tmp_path):
    folder = write(tmp_path / "corpus", [["x"]], [["x"]], [["x"]])
    (folder / "train.txt").write_bytes(" a\tb\r\n\n\u2028c\u00a0d\x0ce".encode())
    corpus = Corpus(folder)
    assert [corpus.dictionary.idx2word[i] for i in corpus.train] == ["a", "b", "<eos>", "<eos>", "c", "d", "e", "<eos>"]


@given(texts, st.integers(64, 90))
def test_a_line_read_in_pieces_is_the_same_line(tmp_path_factory, text, piece):
    folder = write(tmp_path_factory.mktemp("corpus"), text, [[" ".join(line)] * 9 for line in text], text)
    whole = Corpus(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmq.text.corpus.PIECE", piece)
        pieces = Corpus(folder)
    assert pieces.dictionary.idx2word == whole.dictionary.idx2word
    assert torch.equal(pieces.valid, whole.valid)
    assert torch.equal(pieces.test, whole.test)


@pytest.mark.parametrize("end", ["", " ", "\n", "x"])
@pytest.mark.parametrize("length", [PIECE - 2, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_line_ends_once_wherever_the_pieces_end(tmp_path, length, end):
    folder = write(tmp_path / "corpus", [["w"]], [["w"]], [["w"]])
    text = ("w " * length)[:length] + end
    (folder / "test.txt").write_text(text, encoding="utf-8")
    corpus = Corpus(folder)
    assert [corpus.dictionary.idx2word[i] for i in corpus.test] == [*text.split(), "<eos>"]


def test_a_word_without_end_is_refused(corpus_folder):
    (corpus_folder / "test.txt").write_bytes(b"some\nfew words " + b"x" * (3 * PIECE))
    with pytest.raises(ValueError, match=r"test.txt is no text: no space or tab in 65,536 bytes from byte 15 on$"):
        Corpus(corpus_folder)


@pytest.mark.parametrize("words_a_line", [9, 199_999])
def test_memory_is_near_eight_bytes_a_token(tmp_path, words_a_line):
    """A stream's storage is the array that was read into, not a copy, and not a list of Python integers."""
    import tracemalloc

    tokens = 200_000
    folder = write(tmp_path / "corpus", [["w"] * words_a_line] * (tokens // (words_a_line + 1)), [["w"]], [["w"]])
    tracemalloc.start()
    try:
        corpus = Corpus(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(corpus.train) == tokens
    assert peak < 12 * tokens


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no such corpus folder: .*nowhere"):
        Corpus(tmp_path / "nowhere")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_missing_split_is_named_with_what_was_expected(corpus_folder, split):
    (corpus_folder / f"{split}.txt").unlink()
    with pytest.raises(ValueError, match=rf"no {split} split in .*: expected {split}.txt or wiki.{split}.tokens"):
        Corpus(corpus_folder)


def test_a_split_that_is_there_twice_is_refused(corpus_folder):
    (corpus_folder / "wiki.test.tokens").write_text("other\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"test split 2 times: test.txt, wiki.test.tokens"):
        Corpus(corpus_folder)


def test_an_empty_file_is_named(corpus_folder):
    (corpus_folder / "valid.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"valid.txt is empty"):
        Corpus(corpus_folder)


@given(texts, st.sampled_from([b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"]))
def test_what_is_not_utf_8_is_named_with_its_offset(tmp_path_factory, text, invalid):
    folder = write(tmp_path_factory.mktemp("corpus"), text, text, text)
    head = "".join(" ".join(line) + "\n" for line in text).encode()
    (folder / "test.txt").write_bytes(head + b"some " + invalid + b" more\n")
    with pytest.raises(ValueError, match=rf"test.txt is not UTF-8: .* at byte {len(head) + 5}\b"):
        Corpus(folder)


def test_random_bytes_are_read_or_refused_in_one_line(corpus_folder):
    source = random.Random(0)
    for _ in range(200):
        (corpus_folder / "test.txt").write_bytes(source.randbytes(source.randrange(1, 40)))
        try:
            assert len(Corpus(corpus_folder).test) >= 1
        except ValueError as error:
            assert "\n" not in str(error)
