"""Laws of files that are not what they claim to be, even if their hash is right.

1. A zip writes only the published files, never outside the folder, and unpacks no more than the limit.
2. A checkpoint is neither kept nor pinned unless it holds the published model.
3. The error is one line, and the folder holds nothing new.
"""

import io
import random
import zipfile
from dataclasses import replace

import pytest
import torch

from lstmq import LSTMModel
from lstmq.workload.assets import FetchError, file_name
from lstmq.workload.download import fetch
from workload.published import (
    CONFIG,
    GOOD_TEXT,
    MODEL,
    PTH,
    TEXT,
    TEXTS,
    ZIP,
    Reply,
    archive_of,
    checkpoint_bytes,
    contents,
    members,
    refusal,
    zip_bytes,
)


@pytest.fixture
def refused_zip(tmp_path):
    """Return a function that fetches a zip with the right MD5, and returns the message of the error."""

    def refuse(data):
        source, folder = tmp_path / "source", tmp_path / "some" / "where"
        source.mkdir()
        (source / file_name(TEXT)).write_bytes(data)
        message = refusal(archive_of(data), folder, str(source))
        assert message.startswith(f"{source / file_name(TEXT)}: ")
        assert contents(tmp_path) == {f"source/{file_name(TEXT)}": data}
        return message

    return refuse


def encrypted(data):
    """Set the bit of a zip that says that its files are encrypted."""
    data = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset] |= 1
            start = data.find(signature, start + 1)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>log in first</html>", "expected a zip, found a damaged zip, or another file, that starts with b'<htm"),
        (b"", "starts with b''"),
        (ZIP[:-30], "expected a zip, found a damaged zip"),
        (encrypted(ZIP), "is encrypted, password required for extraction"),
        (zip_bytes({}), "expected wikitext-2/wiki.train.tokens once in the zip, found []"),
        (zip_bytes(TEXTS), "expected wikitext-2/wiki.train.tokens once in the zip, found ['wiki.train.tokens', "),
        (zip_bytes(members(train=b"another text")), "wiki.train.tokens: expected git:"),
        (zip_bytes(members(valid=b"another text")), "wiki.valid.tokens: expected sha256:"),
        (zip_bytes(members(test=bytes(5_000_000))), "expected at most 10,000 bytes in the zip, found 5,000,0"),
        (zip_bytes(members() | {"more": bytes(5_000_000)}), "expected at most 10,000 bytes in the zip, found 5,000,7"),
        (zip_bytes(members(), zipfile.ZIP_BZIP2), "stored or deflated, found compression method 12"),
        (zip_bytes(members(), zipfile.ZIP_LZMA), "stored or deflated, found compression method 14"),
    ],
)
def test_zip_with_other_contents_is_refused(refused_zip, data, reason):
    assert reason in refused_zip(data)


@pytest.mark.parametrize(
    "name", ["../out", "wikitext-2/../../out", "/out", "..\\out", "C:\\out", "wikitext-2/..", "\\\\host\\out"]
)
def test_zip_with_names_outside_its_folder_is_refused(refused_zip, name):
    message = refused_zip(zip_bytes(members() | {name: b"out"}))
    assert f"expected names inside the folder of the zip, found {name!r}" in message


@pytest.mark.parametrize(
    "name",
    [
        "wikitext-2/wiki.train.tokenz",  # renamed to the name of a published file
        "wikitext-2/./wiki.train.tokens",
        "wikitext-2//wiki.train.tokens",
        "wikitext-2/wiki.train.tokens/more",
        "wikitext-2/wiki.train.tokens.more",
    ],
)
def test_zip_with_two_files_for_one_name_is_refused(refused_zip, name):
    data = zip_bytes(members() | {name: b"more"}).replace(b"tokenz", b"tokens")
    assert "expected wikitext-2/wiki.train.tokens once in the zip, found ['wikitext-2/wiki" in refused_zip(data)


def test_zip_that_holds_more_than_it_declares_is_refused(refused_zip):
    """The headers declare the published size, but the data inflates to 5 MB."""
    name, bomb = "wikitext-2/wiki.test.tokens", bytes(5_000_000)
    data = bytearray(zip_bytes(members(test=bomb)))
    size, declared = (size.to_bytes(4, "little") for size in (len(bomb), len(TEXTS["wiki.test.tokens"])))
    assert data.count(size) == 2
    data = bytes(data.replace(size, declared))
    assert zipfile.ZipFile(io.BytesIO(data)).getinfo(name).file_size == len(TEXTS["wiki.test.tokens"])
    assert "(BadZipFile: Bad CRC-32 for file" in refused_zip(data)


def test_zip_with_random_damage_is_refused_or_still_good(tmp_path):
    source, generator = tmp_path / "source", random.Random(0)
    source.mkdir()
    for turn in range(60):
        data = bytearray(ZIP)
        for _ in range(generator.randrange(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        (source / file_name(TEXT)).write_bytes(data)
        folder = tmp_path / str(turn)
        try:
            fetch(archive_of(bytes(data)), folder, str(source))
        except FetchError as error:
            assert "\n" not in str(error)
            assert contents(folder) == {}
        else:
            assert contents(folder) == GOOD_TEXT


def test_zip_with_further_files_writes_only_the_published_ones(tmp_path, server):
    data = zip_bytes(members() | {"wikitext-2/train.txt": b"more", "README": b"more"})
    asset = archive_of(data)
    server.reply(asset, Reply(data))
    fetch(asset, tmp_path, server.url)
    assert contents(tmp_path) == GOOD_TEXT


def torch_zip_bomb():
    buffer = io.BytesIO()
    torch.save(dict(LSTMModel(CONFIG).state_dict()), buffer)
    with zipfile.ZipFile(buffer) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return zip_bytes({name: bytes(2_000_000) if name.endswith("/data/0") else file for name, file in files.items()})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>log in first</html>", "expected "),
        (b"", "word_language_model_quantize.pth is empty: expected a checkpoint"),
        (PTH[: len(PTH) // 2], "damaged or cut"),
        (PTH[:-1], "expected "),
        (ZIP, "found a zip archive with wikitext-2/"),
        (b"PK\x03\x04 is no zip", "damaged or cut"),
        (torch_zip_bomb(), "expected at most 10,000 bytes in the zip, found 2,0"),
        (b"prefix" + torch_zip_bomb(), "expected at most 10,000 bytes in the zip, found 2,0"),
        (checkpoint_bytes(extra=torch.ones(1)), "extra"),
        (checkpoint_bytes(**{"decoder.bias": torch.full((9,), torch.nan)}), "finite numbers in decoder.bias"),
        (checkpoint_bytes(config=replace(CONFIG, nhid=4)), "expected a checkpoint with ModelConfig(ntoken=9, ninp=4, "),
    ],
)
def test_checkpoint_with_other_contents_is_neither_kept_nor_pinned(tmp_path, server, body, reason):
    server.reply(MODEL, Reply(body, length=None))  # without a length, only the contents are wrong
    message = refusal(MODEL, tmp_path, server.url)
    assert reason in message
    assert ".fetch-" not in message  # the temporary folder
    assert contents(tmp_path) == {}
