import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from videocrafter.checkpoints.hub import converted_models as cache
from videocrafter.checkpoints.hub.converted_models import (
    cache_home,
    converted_folder,
    find_converted,
    find_converted_preset,
    fingerprint_file,
    hub_name,
)
from videocrafter.checkpoints.official import to_folder
from videocrafter.checkpoints.official.conversion import Conversion
from videocrafter.presets import PRESETS


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VIDEOCRAFTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def conversions(monkeypatch) -> list[Path]:
    """The conversions that were started; a conversion only writes an index."""
    begun: list[Path] = []

    def convert(source, folder, *, drop_unused, on_progress):
        begun.append(source)
        folder.mkdir()
        (folder / "model_index.json").write_text("{}")
        if on_progress is not None:
            on_progress(1, 2)
        return Conversion(path=folder, description="a tiny model", preset=None, parts={}, num_extras=0, num_bytes=0)

    monkeypatch.setattr(to_folder, "convert_to_folder", convert)
    return begun


def checkpoint(path: Path, value: float = 1.0) -> Path:
    weights = {f"layer.{index}": torch.full((1000,), float(index)) for index in range(20)}
    torch.save({"state_dict": {**weights, "layer.7": torch.full((1000,), value)}}, path)
    return path


def test_home_is_a_folder_of_the_user_unless_told_otherwise(home, monkeypatch, tmp_path):
    assert cache_home() == home
    monkeypatch.delenv("VIDEOCRAFTER_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "xdg" / "videocrafter"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_home() == tmp_path / ".cache" / "videocrafter"


def test_a_file_is_converted_once_whatever_it_is_called(conversions, tmp_path, home):
    first = checkpoint(tmp_path / "my model.ckpt")
    messages: list[str] = []
    progress: list[tuple[int, int]] = []
    folder = converted_folder(first, notify=messages.append, on_progress=lambda *now: progress.append(now))
    assert folder.parent == home / "models"
    assert folder.name.startswith("my_model-")
    assert (folder / "model_index.json").is_file()
    assert "converting" in messages[0]
    assert str(folder) in messages[0]
    assert messages[1] == "detected a tiny model"
    assert progress == [(1, 2)]

    moved = first.rename(tmp_path / "other.ckpt")
    assert converted_folder(moved) == find_converted(moved) == folder
    assert conversions == [first]
    assert sorted(path.name for path in folder.parent.iterdir() if path.suffix != ".lock") == [folder.name]


def test_another_content_is_another_folder(conversions, tmp_path):
    # The files have the same size and differ in one tensor.
    first, second = checkpoint(tmp_path / "a.ckpt", 1.0), checkpoint(tmp_path / "b.ckpt", 2.0)
    assert first.stat().st_size == second.stat().st_size
    assert converted_folder(first) != converted_folder(second)
    assert len(conversions) == 2


def test_the_checksums_of_an_archive_show_a_change_anywhere(tmp_path, monkeypatch):
    # Almost none of the tensors' bytes are read.
    monkeypatch.setattr(cache, "_NUM_SAMPLES", 1)
    monkeypatch.setattr(cache, "_EDGE_BYTES", 8000)
    marks = {fingerprint_file(checkpoint(tmp_path / f"{value}.ckpt", value)) for value in (1.0, 2.0, 3.0)}
    assert len(marks) == 3


def test_of_a_file_without_checksums_the_time_of_change_counts(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(4)}, path)
    mark = fingerprint_file(path)
    assert fingerprint_file(path) == mark
    os.utime(path, ns=(0, 10**9))
    assert fingerprint_file(path) != mark


def test_files_of_any_size_have_a_fingerprint(tmp_path):
    marks = []
    for size in (0, 1, 100, 3 * 2**20):
        path = tmp_path / f"{size}.bin"
        path.write_bytes(b"x" * size)
        marks.append(fingerprint_file(path))
    assert len(set(marks)) == 4
    assert all(len(mark) == 16 for mark in marks)


def test_two_at_once_convert_once(conversions, tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "model.ckpt")
    waiting, convert = threading.Event(), to_folder.convert_to_folder

    def slow(*arguments, **options):
        assert waiting.wait(30)
        return convert(*arguments, **options)

    monkeypatch.setattr(to_folder, "convert_to_folder", slow)
    messages: list[str] = []

    def notify(text: str) -> None:
        messages.append(text)
        if "waiting for it" in text:
            waiting.set()

    folders: list[Path] = []
    threads = [
        threading.Thread(target=lambda: folders.append(converted_folder(path, notify=notify))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(folders) == 2
    assert folders[0] == folders[1]
    assert len(conversions) == 1
    assert sum("waiting for it" in text for text in messages) == 1


def test_a_failed_conversion_leaves_nothing_and_can_be_repeated(conversions, tmp_path, home, monkeypatch):
    path, convert = checkpoint(tmp_path / "model.ckpt"), to_folder.convert_to_folder

    def fail(source, folder, **_):
        folder.mkdir()
        raise ValueError("it is something else")

    monkeypatch.setattr(to_folder, "convert_to_folder", fail)
    with pytest.raises(ValueError, match="something else"):
        converted_folder(path)
    assert [one for one in (home / "models").iterdir() if one.suffix != ".lock"] == []
    monkeypatch.setattr(to_folder, "convert_to_folder", convert)
    assert converted_folder(path).is_dir()


def test_what_a_killed_run_left_is_cleared(conversions, tmp_path, home):
    path = checkpoint(tmp_path / "model.ckpt")
    mark = fingerprint_file(path)
    (home / "models" / f".{mark}.part" / "model").mkdir(parents=True)
    (home / "models" / f"model-{mark}").mkdir()
    folder = converted_folder(path)
    assert (folder / "model_index.json").is_file()
    assert not (home / "models" / f".{mark}.part").exists()


def test_a_presets_download_is_found_without_the_download(conversions, tmp_path):
    preset, early = PRESETS["t2v-512"], PRESETS["t2v-512-early"]
    path = checkpoint(tmp_path / "model.ckpt")
    assert find_converted_preset(preset) is None
    folder = converted_folder(path, name=hub_name(preset))
    converted_folder(checkpoint(tmp_path / f"{hub_name(early)}.ckpt", 5.0))
    path.unlink()
    assert find_converted_preset(preset) == folder
    # A file with the same name is not the download.
    assert find_converted_preset(early) is None
