"""Laws of ``lstmq fetch``: it prints where the files are and where they come from; errors are one line and code 2."""

import hashlib

import pytest
from click.testing import CliRunner

from lstmq.cli import main
from lstmq.cli.fetch import NAMES
from lstmq.workload.assets import ASSETS, file_name
from workload.published import GOOD_MODEL, GOOD_TEXT, MODEL, PTH, TEXT, ZIP, Reply, contents


def run_fetch(*arguments):
    result = CliRunner().invoke(main, ["fetch", *map(str, arguments)])
    assert not isinstance(result.exception, Exception), result.exception
    return result


def test_names_of_the_command_are_those_of_the_assets():
    assert list(NAMES) == list(ASSETS)


def test_fetch_command_downloads_both_assets_once(tmp_path, mirror, small_assets):
    result = run_fetch("--dest", tmp_path, "--from", mirror.url)
    path = MODEL.path(tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"wikitext-2: {tmp_path / 'wikitext-2'} (fetched from {mirror.url}/wikitext-2-v1.zip, verified)",
        f"checkpoint: {path} (fetched from {mirror.url}/{path.name}, verified)",
        f"SHA-256 {hashlib.sha256(PTH).hexdigest()}, pinned in {path}.lock",
    ]
    assert contents(tmp_path) == GOOD_TEXT | GOOD_MODEL
    assert run_fetch("--dest", tmp_path, "--from", mirror.url).stdout.count("already there, verified") == 2
    assert len(mirror.requests) == 2


@pytest.mark.parametrize(("what", "expected"), [("wikitext-2", GOOD_TEXT), ("checkpoint", GOOD_MODEL)])
def test_fetch_command_downloads_the_named_asset(tmp_path, mirror, small_assets, what, expected):
    assert run_fetch(what, "--dest", tmp_path, "--from", mirror.url).exit_code == 0
    assert contents(tmp_path) == expected


@pytest.mark.parametrize("body", [b"<html>", ZIP[:50]], ids=["html", "cut"])
def test_fetch_command_reports_a_wrong_hash_in_one_line(tmp_path, server, small_assets, body):
    server.reply(TEXT, Reply(body))
    result = run_fetch("--dest", tmp_path, "--from", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"lstmq: error: {server.url}/wikitext-2-v1.zip: MD5 hash of downloaded file")
    assert result.stderr.count("\n") == 1
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("source", ["ftp://host/x", "file:///x", "nowhere", "https:/host", "http://"])
def test_fetch_command_refuses_a_source_that_is_neither_url_nor_folder(tmp_path, source, small_assets):
    result = run_fetch("--dest", tmp_path, "--from", source)
    assert result.exit_code == 2
    assert result.stderr == (
        f"lstmq: error: expected an http or https URL or a folder to fetch from, found {source!r}\n"
    )


def test_fetch_command_refuses_a_folder_without_the_file(tmp_path, small_assets):
    result = run_fetch("--dest", tmp_path / "data", "--from", tmp_path)
    assert result.stderr == f"lstmq: error: {tmp_path / file_name(TEXT)}: no such file\n"


def test_fetch_command_names_a_destination_that_is_a_file(tmp_path, mirror, small_assets):
    (tmp_path / "data").touch()
    result = run_fetch("--dest", tmp_path / "data", "--from", mirror.url)
    assert result.exit_code == 2
    assert str(tmp_path / "data") in result.stderr
    assert result.stderr.count("\n") == 1
