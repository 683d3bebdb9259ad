"""Files and folders that appear whole or not at all."""

from collections import namedtuple
from pathlib import Path

import pytest

from videocrafter.checkpoints.whole_output import check_space, check_target, whole_file, whole_folder


def model_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "model_index.json").write_text(content)
    return path


def test_a_folder_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path):
    target = tmp_path / "model"
    for content in ("old", "new"):
        with whole_folder(target) as hidden:
            assert hidden.name.startswith(".")
            (hidden / "model_index.json").write_text(content)
        assert (target / "model_index.json").read_text() == content
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_the_old_output_is_as_it_was(tmp_path: Path, error: type[BaseException]):
    def fail_halfway_in_a_folder() -> None:
        with whole_folder(target) as hidden:
            (hidden / "model_index.json").write_text("half")
            raise error

    def fail_halfway_in_a_file() -> None:
        with whole_file(tmp_path / "model.ckpt") as hidden:
            hidden.write_text("half")
            raise error

    target = model_folder(tmp_path / "model", "old")
    for fail_halfway in (fail_halfway_in_a_folder, fail_halfway_in_a_file):
        with pytest.raises(error):
            fail_halfway()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (target / "model_index.json").read_text() == "old"


def test_a_file_replaces_the_old_one(tmp_path: Path):
    target = tmp_path / "model.ckpt"
    for content in ("old", "new"):
        with whole_file(target) as hidden:
            hidden.write_text(content)
    assert target.read_text() == "new"


def test_targets_that_are_refused(tmp_path: Path):
    model = model_folder(tmp_path / "model", "{}")
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "photo.png").touch()
    file = tmp_path / "model.ckpt"
    file.touch()
    refused = (
        (model, True, False, "exists already"),
        (file, False, False, "exists already"),
        (holiday, True, True, "something else than a model"),
        (file, True, True, "is a file, but a folder"),
        (model, False, True, "is a folder, but a file"),
        (file / "inside", True, False, "is a file, not a folder"),
    )
    for path, folder, overwrite, reason in refused:
        with pytest.raises(ValueError, match=reason):
            check_target(path, folder=folder, overwrite=overwrite)
    check_target(model, folder=True, overwrite=True)
    check_target(file, folder=False, overwrite=True)
    check_target(tmp_path / "new" / "place", folder=True, overwrite=False)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [], "the probe is gone"


def test_too_little_space_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**12, 0, 3 * 10**9))
    check_space(tmp_path / "model", 2 * 10**9)
    with pytest.raises(OSError, match=r"3\.0 GB free, but model needs 3\.0 GB; free some space"):
        check_space(tmp_path / "model", 3 * 10**9)
