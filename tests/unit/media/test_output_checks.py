"""Outputs that cannot be written are reported before any work, with advice."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from videocrafter.media.errors import MediaError, OutputError, OutputExistsError
from videocrafter.media.output_checks import check_space, check_writable, find_disk_error


def test_an_existing_output_is_refused_and_the_option_named(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").touch()
    with pytest.raises(OutputExistsError, match=r"video\.mp4 already exists; .*--overwrite"):
        check_writable(tmp_path / "video.mp4")
    check_writable(tmp_path / "video.mp4", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_the_parent_is_created_and_nothing_else(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "place")
    assert list((tmp_path / "new").iterdir()) == []


def test_overwriting_spares_the_other_kind_and_full_folders(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.touch()
    check_writable(folder, folder=True, overwrite=True)
    (folder / "mine").touch()
    for path, is_folder, reason in (
        (folder, False, "is a folder, but the output is a file"),
        (file, True, "is a file, but the output is a folder"),
        (folder, True, "is not empty, so it is not overwritten"),
        (file / "inside", True, "part of the path is a file, not a folder"),
        (tmp_path / ("x" * 300), False, "the name is too long"),
    ):
        with pytest.raises(MediaError, match=reason):
            check_writable(path, folder=is_folder, overwrite=True)
    with pytest.raises(MediaError, match="holds a cat, so it is not overwritten"):
        check_writable(folder, folder=True, overwrite=True, objection=lambda path: "holds a cat")
    check_writable(folder, folder=True, overwrite=True, objection=lambda path: None)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "permission denied; choose a folder that you can write to"),
        (errno.ENOENT, "the folder cannot be created"),
        (errno.EIO, f"{os.strerror(errno.EIO)}; choose another output"),
    ],
)
def test_a_refusal_names_the_output_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError) as error:
        check_writable(tmp_path / "a.txt")
    assert str(error.value).startswith(f"cannot write {tmp_path / 'a.txt'}: {advice}")


def test_too_little_space_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 3 * 10**9))
    check_space(tmp_path / "model", 2 * 10**9)
    with pytest.raises(OSError, match=r"3\.0 GB free, but model needs 3\.0 GB; free some space"):
        check_space(tmp_path / "model", 3 * 10**9)


def test_disk_errors_are_found_behind_those_of_libraries() -> None:
    written = Path("/out/.part")
    full = OSError(errno.ENOSPC, "No space left on device")
    hidden = RuntimeError("unexpected pos 742784 vs 742672")  # torch.save, as it closes its archive
    hidden.__context__ = full
    quoted = RuntimeError("Error while serializing: No space left on device (os error 28)")
    found = [find_disk_error(error, written) for error in (full, hidden, quoted)]
    assert [error.errno if error is not None else None for error in found] == [errno.ENOSPC] * 3
    inside = PermissionError(errno.EACCES, "Permission denied", "/out/.part/unet")
    missing_source = FileNotFoundError(errno.ENOENT, "No such file", "/in/model.ckpt")
    offline = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert find_disk_error(inside, written) is inside
    for other in (missing_source, offline, RuntimeError("shapes do not match")):
        assert find_disk_error(other, written) is None
