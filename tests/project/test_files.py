"""Laws of files.

1. After an error, a file has its old content; otherwise it has its new content.
2. What exists and is not a regular file is never replaced.
3. Only regular files are read.
"""

import os
import stat
import threading
from pathlib import Path

import pytest

from lstmq.files import atomic_write, check_folder, check_input, check_replaceable, read_input

MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of files, although it is under /dev


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_atomic_write_keeps_the_old_file_after_an_error(tmp_path, error):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_write(target) as path:
        path.write_text("half of the ne")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_write_moves_the_new_file_into_place_and_keeps_permissions(tmp_path):
    target, ordinary = tmp_path / "file.txt", tmp_path / "ordinary"
    ordinary.touch()
    with atomic_write(target) as path:
        path.write_text("new")
        assert not target.exists()
        inode = path.stat().st_ino
    assert target.read_text() == "new"
    assert target.stat().st_ino == inode  # moved, not copied, so nobody can read a part of it
    assert target.stat().st_mode == ordinary.stat().st_mode
    target.chmod(0o600)
    with atomic_write(target) as path:
        path.write_text("newer")
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("newer", 0o600)


def test_atomic_write_follows_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with atomic_write(tmp_path / "link") as path:
        path.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_atomic_write_writes_to_a_device_directly():
    with atomic_write(os.devnull) as path:
        path.write_text("text")
    assert not Path(os.devnull).is_file()


def test_atomic_write_writes_to_a_pipe_directly():
    """As ``/dev/stdout`` may be: a link to a pipe, which must not be replaced."""
    reader, writer = os.pipe()
    with atomic_write(f"/dev/fd/{writer}") as path:
        path.write_text("text")
    os.close(writer)
    with os.fdopen(reader) as file:
        assert file.read() == "text"


def test_atomic_write_does_not_replace_a_file_behind_a_descriptor(tmp_path):
    with (tmp_path / "file").open("w") as file:
        before = os.fstat(file.fileno()).st_ino
        with atomic_write(f"/dev/fd/{file.fileno()}") as path:
            path.write_text("text")
    assert (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "file").stat().st_ino == before


@pytest.mark.skipif(not MEMORY.is_dir(), reason="needs a file system in memory")
def test_atomic_write_keeps_the_old_file_in_memory_after_an_error():
    target = MEMORY / f"lstmq-{os.getpid()}"
    try:
        target.write_text("old")
        with pytest.raises(KeyboardInterrupt), atomic_write(target) as path:
            path.write_text("half of the ne")
            raise KeyboardInterrupt
        assert target.read_text() == "old"
    finally:
        target.unlink()


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_atomic_write_sends_the_content_through_a_named_pipe(pipe):
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    while True:
        try:
            with atomic_write(pipe) as path:
                path.unlink()  # as a library does that renames a file of its own
                path.write_bytes(b"x" * 200_000)  # more than a pipe holds
            break
        except OSError:  # the reader has not opened the pipe yet
            assert reader.is_alive()
    reader.join(timeout=10)
    assert received == [b"x" * 200_000]
    assert pipe.is_fifo()


def test_atomic_write_refuses_a_pipe_that_nobody_reads_before_the_block(pipe):
    with pytest.raises(OSError, match="no process reads this pipe: start the reader first"), atomic_write(pipe):
        pytest.fail("the block ran")


def test_atomic_write_keeps_a_device_even_if_the_block_renames_over_its_path(tmp_path):
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 7))  # /dev/full, on which every write fails
        device.open("wb").close()
    except OSError:
        pytest.skip("needs the right to make a device")
    (tmp_path / "other").write_text("text")
    with pytest.raises(OSError, match=r"No space left on device: '.*full'"), atomic_write(device) as path:
        (tmp_path / "other").replace(path)
    assert device.is_char_device()


def test_atomic_write_to_a_folder_fails_before_the_block(tmp_path):
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path):
        pytest.fail("the block ran")


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_atomic_write_to_a_dash_is_standard_output_and_nothing_after_an_error(capfdbinary, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with atomic_write(name) as path:
        path.write_bytes(b"\x00\xff")
    with pytest.raises(ValueError, match="half"), atomic_write(name) as path:
        path.write_bytes(b"half")
        raise ValueError("half")
    assert capfdbinary.readouterr().out == b"\x00\xff"
    assert list(tmp_path.iterdir()) == []


def test_input_that_is_not_a_regular_file_is_refused_by_what_it_is(pipe, tmp_path):
    for path, kind in ((pipe, "a pipe"), (Path(os.devnull), "a device"), (tmp_path, "a folder")):
        with pytest.raises(OSError, match=f"{path}: expected a file, found {kind}"):
            check_input(path)
        if kind != "a folder":
            with pytest.raises(OSError, match=f"because it is read again, found {kind}: {path}"):
                check_replaceable(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        check_input(tmp_path / "nowhere")
    with pytest.raises(OSError, match="found standard output: -"):
        check_replaceable(Path("-"))


def test_read_input_returns_the_content_up_to_a_size(tmp_path):
    (tmp_path / "file").write_bytes(b"text")
    assert read_input(tmp_path / "file", at_most=4) == b"text"
    with pytest.raises(ValueError, match="file: expected at most 3 bytes, found 4"):
        read_input(tmp_path / "file", at_most=3)


def test_missing_folder_is_named(tmp_path):
    path = tmp_path / "nowhere" / "file"
    message = f"no such folder to write to: {path.parent}"
    with pytest.raises(FileNotFoundError, match=message):
        check_folder(path)
    with pytest.raises(FileNotFoundError, match=message), atomic_write(path):
        pass
