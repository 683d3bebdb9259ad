"""What a user is told when an output cannot be written, and that nothing is left of it."""

import errno
import os

import pytest

from videocrafter.media import atomic_write
from videocrafter.media.atomic_write import check_writable, write_all
from videocrafter.media.errors import MediaError, OutputExistsError


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EROFS, "read-only; choose another folder"),
        (errno.EACCES, "you may not write there; choose another folder"),
        (errno.ENOENT, "the folder cannot be made there; choose another folder"),
        (errno.EIO, f"{os.strerror(errno.EIO)}; choose another output"),
    ],
)
def test_a_failure_says_what_to_do_and_leaves_all_as_it_was(tmp_path, monkeypatch, code, advice):
    (tmp_path / "old.txt").write_bytes(b"old")
    write = atomic_write._write

    def fail_at_the_second(path, content):
        write(path, content)
        if content == b"second":
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic_write, "_write", fail_at_the_second)
    with pytest.raises(MediaError) as error:
        write_all({tmp_path / "old.txt": b"first", tmp_path / "new.txt": b"second"}, overwrite=True)
    assert str(error.value).startswith(f"cannot write {tmp_path / 'new.txt'}: ")
    assert advice in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
    assert (tmp_path / "old.txt").read_bytes() == b"old"


def test_what_exists_is_kept_and_the_option_that_replaces_it_named(tmp_path):
    (tmp_path / "video.mp4").touch()
    with pytest.raises(OutputExistsError, match=r"video\.mp4 exists already; .*--overwrite"):
        check_writable(tmp_path / "video.mp4")
    check_writable(tmp_path / "video.mp4", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
