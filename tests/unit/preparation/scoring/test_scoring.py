"""Networks of the user, and the area of text, give clips scores that a recipe can use."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.unit.preparation.films import shot, small_config, write_film
from tests.unit.preparation.inline_engine import InlineEngine
from videocrafter.preparation import run as running
from videocrafter.preparation.config import ScoreConfig
from videocrafter.preparation.failures import PreparationError, UnitError
from videocrafter.preparation.parquet_file import read_parquet
from videocrafter.preparation.run import prepare
from videocrafter.preparation.scoring.scoring import load_scorers, score_clips
from videocrafter.preparation.scoring.text_area import TextArea


class Brightness(torch.nn.Module):
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.mean(dim=(1, 2, 3))


class WrongShape(torch.nn.Module):
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.mean()


def weights(folder: Path, **modules: torch.nn.Module) -> Path:
    """Write TorchScript files and pin them."""
    folder.mkdir()
    pins = {}
    for name, module in modules.items():
        torch.jit.script(module).save(str(folder / f"{name}.pt"))
        pins[name] = {
            "file": f"{name}.pt",
            "sha256": hashlib.sha256((folder / f"{name}.pt").read_bytes()).hexdigest(),
        }
    (folder / "weights.json").write_text(json.dumps(pins))
    return folder


def film(path: Path) -> Path:
    """A dark shot and a bright one, with black bars."""
    frames = [np.full((90, 160, 3), level, np.uint8) for level in [60] * 48 + [200] * 48]
    for frame in frames:
        frame[:20] = frame[-20:] = 0
    return write_film(path, frames)


def test_networks_see_a_few_frames_without_bars(tmp_path):
    path = film(tmp_path / "film.mp4")
    config = ScoreConfig(weights=str(weights(tmp_path / "w", aesthetics=Brightness(), nsfw=Brightness())))
    crop = (25 / 90, 65 / 90, 0.0, 1.0)
    found = dict(score_clips(path, "film", [("a", 0.0, 2.0, crop), ("b", 2.0, 4.0, crop)], config))
    assert found["a"] == pytest.approx({"aesthetics": 60 / 255, "nsfw": 60 / 255}, abs=0.02)
    assert found["b"]["aesthetics"] == pytest.approx(200 / 255, abs=0.02)


def test_a_network_that_fails_costs_the_scores_of_its_clip(tmp_path):
    path = film(tmp_path / "film.mp4")
    config = ScoreConfig(weights=str(weights(tmp_path / "w", watermark=WrongShape())))
    ((name, error),) = score_clips(path, "film", [("a", 0.0, 2.0, (0, 1, 0, 1))], config)
    assert (name, error.reason) == ("a", "score_failed")
    assert "expected a tensor of shape [3]" in str(error)


def test_a_clip_that_cannot_be_read_costs_itself_only(tmp_path):
    path = film(tmp_path / "film.mp4")
    config = ScoreConfig(weights=str(weights(tmp_path / "w", nsfw=Brightness())))
    parts = [
        (name, start_s, start_s + 2.0, (0, 1, 0, 1)) for name, start_s in (("a", 0.0), ("late", 30.0), ("b", 2.0))
    ]
    found = dict(score_clips(path, "film", parts, config))
    assert (found["late"].reason, list(found)) == ("truncated", ["a", "late", "b"])
    with path.open("rb") as file:
        assert dict(score_clips(file, "film", parts[::-1], config))["b"] == found["b"]
    assert dict(score_clips(path, "film", parts[2:], config)) == {"b": found["b"]}


def test_scores_are_computed_by_one_thread(tmp_path, monkeypatch):
    counts, given = [], {}
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    load_scorers(ScoreConfig(weights=str(weights(tmp_path / "w", nsfw=Brightness())), frames=1))
    assert counts == [1]
    rapidocr = SimpleNamespace(RapidOCR=lambda params: given.update(params))
    monkeypatch.setitem(sys.modules, "rapidocr", rapidocr)
    TextArea()
    assert given["EngineConfig.onnxruntime.intra_op_num_threads"] == 1
    assert given["EngineConfig.onnxruntime.inter_op_num_threads"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "nsfw.pt").write_bytes(b"other"), "has SHA-256"),
        (lambda folder: (folder / "nsfw.pt").unlink(), "does not exist"),
        (lambda folder: (folder / "weights.json").unlink(), "names no network"),
        (lambda folder: (folder / "weights.json").write_text('{"taste": {}}'), "'taste' is not a known network"),
    ],
)
def test_other_files_than_the_pinned_ones_stop_a_run_before_any_work(tmp_path, change, message):
    folder = weights(tmp_path / "w", nsfw=Brightness())
    change(folder)
    config = small_config(f"score.weights={folder}", "caption.text=a")
    film(tmp_path / "films" / "film.mp4")
    with pytest.raises(PreparationError, match=message):
        prepare([str(tmp_path / "films")], tmp_path / "out", config)
    assert not (tmp_path / "out" / "work").exists()
    with pytest.raises((UnitError, ValueError), match=message):
        load_scorers(replace(config.score, frames=5))


def test_a_recipe_drops_by_scores_and_a_second_run_repeats_nothing(tmp_path, monkeypatch):
    engines: list[InlineEngine] = []

    def engine(name: str, job: object) -> InlineEngine:
        engines.append(InlineEngine(job))
        return engines[-1]

    monkeypatch.setattr(running, "_engine", engine)
    write_film(tmp_path / "films" / "film.mp4", shot(1, 60) + shot(2, 60))
    folder = weights(tmp_path / "w", nsfw=Brightness())
    config = small_config(f"score.weights={folder}", "caption.text=shapes move")
    prepare([str(tmp_path / "films")], tmp_path / "out", config)
    rows = list(read_parquet(tmp_path / "out" / "manifest.parquet"))
    scores = sorted(row["nsfw"] for row in rows)
    assert len(scores) == 2
    assert 0 < scores[0] < scores[1] < 1
    assert any(done.startswith("score ") for done in engines[0].done)

    middle = float(np.mean(scores))
    strict = replace(config, select=replace(config.select, floors=replace(config.select.floors, max_nsfw=middle)))
    prepare([str(tmp_path / "films")], tmp_path / "out", strict, change_settings=True)
    rows = list(read_parquet(tmp_path / "out" / "manifest.parquet"))
    assert sorted((row["nsfw"] > middle, row["reason"]) for row in rows) == [(False, ""), (True, "nsfw")]
    assert not [done for done in engines[1].done if done.startswith(("scan", "score"))]


def test_the_area_of_text_counts_overlapping_boxes_once():
    boxes = np.array([[[0, 0], [49, 0], [49, 19], [0, 19]], [[0, 0], [49, 0], [49, 9], [0, 9]]], np.float32)
    frames = [np.zeros((100, 100, 3), np.uint8)] * 2
    assert TextArea(lambda picture: boxes).score(frames) == pytest.approx(0.1)
    assert TextArea(lambda picture: None).score(frames) == 0.0


def test_without_rapidocr_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ValueError, match="pip install rapidocr onnxruntime"):
        TextArea()
