"""Laws of the dictionary and the corpus.

1. A dictionary is a bijection between words and ids, in the order of their first occurrence.
2. The ids of a corpus spell its text, and the text that they spell reads as the same ids.
3. A corpus that is given a dictionary adds no word: unknown words become ``<unk>``.
4. What the tutorial's code reads has the ids that the tutorial's code gives it. ``test_reading.py`` has the rest.
"""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import Corpus, Dictionary
from lstmq.text.corpus import unknown_share
from strategies import lines, texts, words

SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that the examples of a property test write to one after the other."""
    return tmp_path_factory.mktemp("corpus")


def write(folder, train, valid, test, name="{}.txt"):
    for split, text in zip(SPLITS, (train, valid, test), strict=True):
        (folder / name.format(split)).write_text("".join(" ".join(line) + "\n" for line in text), encoding="utf-8")
    return folder


def spell(corpus, split):
    return [corpus.dictionary.idx2word[idx] for idx in getattr(corpus, split)]


@given(st.lists(words))
def test_dictionary_numbers_words_in_order_of_first_occurrence(text):
    dictionary = Dictionary()
    ids = [dictionary.add_word(word) for word in text]
    assert dictionary.idx2word == list(dict.fromkeys(text))
    assert [dictionary.idx2word[idx] for idx in ids] == text
    assert all(dictionary.word2idx[word] == idx for idx, word in enumerate(dictionary.idx2word))
    assert len(dictionary) == len(dictionary.word2idx) == len(dictionary.idx2word)


@settings(max_examples=10)
@given(texts, texts, texts)
def test_corpus_ids_spell_the_text_and_read_back_unchanged(folder, train, valid, test):
    corpus = Corpus(write(folder, train, valid, test))
    for split, text in zip(SPLITS, (train, valid, test), strict=True):
        ids = getattr(corpus, split)
        assert (ids.dtype, ids.dim()) == (torch.int64, 1)
        assert spell(corpus, split) == [word for line in text for word in (*line, "<eos>")]
    # The text may contain the word <eos> itself. Written as a line end, it has the same id.
    for split in SPLITS:
        text = "".join("\n" if word == "<eos>" else f" {word}" for word in spell(corpus, split))
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    again = Corpus(folder)
    assert again.dictionary.idx2word == corpus.dictionary.idx2word
    assert all(torch.equal(getattr(corpus, split), getattr(again, split)) for split in SPLITS)


@settings(max_examples=20)
@given(texts, lines)
def test_corpus_with_a_dictionary_replaces_unknown_words_by_unk(folder, text, known):
    dictionary = Dictionary(["<unk>", "<eos>", *known])
    before = list(dictionary.idx2word)
    corpus = Corpus(write(folder, text, text, text), dictionary)
    assert corpus.dictionary is dictionary
    assert dictionary.idx2word == before
    expected = [word if word in {*known, "<eos>"} else "<unk>" for line in text for word in (*line, "<eos>")]
    assert spell(corpus, "test") == expected


def test_corpus_with_a_dictionary_without_unk_names_the_unknown_word(folder):
    write(folder, [["one"]], [["two"]], [["one"]])
    with pytest.raises(ValueError, match=r"'two' is not in the dictionary, and there is no <unk> to replace it"):
        Corpus(folder, Dictionary(["one", "<eos>"]))


@pytest.mark.parametrize("name", ["{}.txt", "wiki.{}.tokens", "wiki.{}.raw"])
def test_corpus_reads_the_names_of_wikitext(tmp_path, name):
    corpus = Corpus(write(tmp_path, [["a", "b"]], [["c"]], [["a"]], name))
    assert corpus.dictionary.idx2word == ["a", "b", "<eos>", "c"]


@given(st.lists(st.integers(0, 3), min_size=1))
def test_unknown_share_is_the_share_of_ids_of_unk(ids):
    share = unknown_share(torch.tensor(ids), Dictionary(["a", "<unk>", "b", "c"]))
    assert share == ids.count(1) / len(ids)
    assert unknown_share(torch.tensor(ids), Dictionary("abcd")) is None


@pytest.mark.parametrize("words_per_line", [9, 199_999])
def test_corpus_needs_about_eight_bytes_of_memory_per_token(tmp_path, words_per_line):
    """The tensor shares the memory of the array that the ids were read into, and nothing makes a list of integers."""
    import tracemalloc

    tokens = 200_000
    text = [["w"] * words_per_line] * (tokens // (words_per_line + 1))
    folder = write(tmp_path, text, [["w"]], [["w"]])
    tracemalloc.start()
    try:
        corpus = Corpus(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(corpus.train) == tokens
    assert peak < 12 * tokens


def test_corpus_refuses_a_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"no such corpus folder: .*nowhere"):
        Corpus(tmp_path / "nowhere")


@pytest.mark.parametrize("split", SPLITS)
def test_corpus_names_a_missing_split_and_its_possible_files(corpus_folder, split):
    (corpus_folder / f"{split}.txt").unlink()
    with pytest.raises(ValueError, match=rf"no {split} split in .*: expected {split}.txt or wiki.{split}.tokens"):
        Corpus(corpus_folder)


def test_corpus_refuses_two_files_for_one_split(corpus_folder):
    (corpus_folder / "wiki.test.tokens").write_text("other\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected one test split in .*, found test.txt, wiki.test.tokens"):
        Corpus(corpus_folder)


def test_corpus_refuses_an_empty_file(corpus_folder):
    (corpus_folder / "valid.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"valid.txt is empty"):
        Corpus(corpus_folder)


def test_corpus_reads_random_bytes_or_refuses_them_in_one_line(corpus_folder):
    source = random.Random(0)
    for _ in range(100):
        (corpus_folder / "test.txt").write_bytes(source.randbytes(source.randrange(1, 40)))
        try:
            assert len(Corpus(corpus_folder).test) >= 1
        except ValueError as error:
            assert "\n" not in str(error)
