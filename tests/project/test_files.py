"""The law of files: whole, or as before."""

import os
import stat
from pathlib import Path

import pytest

from lstmq.files import atomic_write


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_write(target) as path:
        path.write_text("half of the ne")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_new_file_is_moved_into_place_with_the_usual_rights(tmp_path):
    target, usual = tmp_path / "file.txt", tmp_path / "usual"
    usual.touch()
    with atomic_write(target) as path:
        path.write_text("new")
        assert not target.exists()
        written = path.stat().st_ino
    assert target.read_text() == "new"
    assert target.stat().st_ino == written  # moved, not copied: nobody ever sees a part of it
    assert target.stat().st_mode == usual.stat().st_mode
    target.chmod(0o600)
    with atomic_write(target) as path:
        path.write_text("newer")
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("newer", 0o600)


def test_a_link_is_followed_and_a_device_is_written_to(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with atomic_write(tmp_path / "link") as path:
        path.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    with atomic_write(os.devnull) as path:
        path.write_text("gone")
    assert not Path(os.devnull).is_file()


MEMORY = Path("/dev/shm")  # noqa: S108  # the one folder under /dev that holds files


@pytest.mark.skipif(not MEMORY.is_dir(), reason="not every system has a file system in memory")
def test_a_file_in_memory_is_a_file_like_any_other():
    target = MEMORY / f"lstmq-{os.getpid()}"
    try:
        target.write_text("old")
        with pytest.raises(KeyboardInterrupt), atomic_write(target) as path:
            path.write_text("half of the ne")
            raise KeyboardInterrupt
        assert target.read_text() == "old"
    finally:
        target.unlink()


def test_a_descriptor_is_written_to():
    """As ``/dev/stdout`` is one: a pipe behind a link, which is not to be replaced."""
    reader, writer = os.pipe()
    with atomic_write(f"/dev/fd/{writer}") as path:
        path.write_text("text")
    os.close(writer)
    with os.fdopen(reader) as file:
        assert file.read() == "text"


def test_a_file_behind_a_descriptor_is_written_to_and_not_replaced(tmp_path):
    with (tmp_path / "file").open("w") as file:
        before = os.fstat(file.fileno()).st_ino
        with atomic_write(f"/dev/fd/{file.fileno()}") as path:
            path.write_text("text")
    assert (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "file").stat().st_ino == before
