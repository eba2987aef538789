"""Law of files: after an error, a file has its old content; otherwise it has its new content."""

import os
import stat
from pathlib import Path

import pytest

from lstmq.files import atomic_write, check_folder

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


def test_missing_folder_is_named(tmp_path):
    path = tmp_path / "nowhere" / "file"
    message = f"no such folder to write to: {path.parent}"
    with pytest.raises(FileNotFoundError, match=message):
        check_folder(path)
    with pytest.raises(FileNotFoundError, match=message), atomic_write(path):
        pass
