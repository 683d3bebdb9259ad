from __future__ import annotations

import numpy as np
import pytest

from tests.tiny_models import DEFAULTS, save_tiny_pipeline
from videocrafter.evaluation.comparison.columns import parse_setting
from videocrafter.evaluation.generated_set import SET_FILE, generate_set, prepare_set
from videocrafter.evaluation.prompt_list import PromptItem
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.generation.errors import GenerationError
from videocrafter.media.errors import OutputExistsError
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import probe, read_metadata, sidecar_path

ITEMS = (PromptItem(prompt="a red kite"), PromptItem(prompt="a blue boat", seed=7))
SMALL = {"num_frames": 2, "height": 16, "width": 16}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: save_tiny_pipeline(folder / name, image=name == "i2v") for name in ("t2v", "i2v")}


def generate(model, folder, items=ITEMS, seeds=(3,), settings=None, on_progress=lambda done, total: None, **options):
    settings = SMALL | {"num_inference_steps": 1} | (settings or {})
    prepared = prepare_set(str(model), items, folder, seeds=seeds, settings=settings, device="cpu", **options)
    return generate_set(prepared, on_progress=on_progress)


def test_each_prompt_and_seed_has_a_video_with_its_recording(models, tmp_path):
    settings = dict([parse_setting("steps=2"), parse_setting("scheduler=euler")])
    generate(models["t2v"], tmp_path / "set", seeds=(0, 1), settings=settings, batch_size=2)
    videos = read_video_set(tmp_path / "set", ITEMS)
    assert [(entry.name, entry.prompt, entry.seed) for entry in videos.entries] == [
        ("0000-0.mp4", "a red kite", 0),
        ("0000-1.mp4", "a red kite", 1),
        ("0001-7.mp4", "a blue boat", 7),
    ]
    assert videos.problems == ()
    assert probe(videos.entries[0].path).num_frames == 2
    recorded = videos.entries[0].metadata
    assert (recorded["num_inference_steps"], recorded["scheduler"]) == (2, "euler")


def test_finished_videos_are_kept_and_missing_ones_made_again(models, tmp_path):
    seen = []
    first, second = generate(models["t2v"], tmp_path / "set", on_progress=lambda *one: seen.append(one))
    assert seen == [(0, 2), (1, 2), (2, 2)]
    content, kept = first.read_bytes(), second.stat().st_mtime_ns
    first.unlink()
    sidecar_path(first).unlink()
    seen.clear()
    generate(models["t2v"], tmp_path / "set", on_progress=lambda *one: seen.append(one))
    assert seen == [(1, 2), (2, 2)]
    assert (first.read_bytes(), second.stat().st_mtime_ns) == (content, kept)


def test_a_complete_set_needs_no_model_in_memory(models, tmp_path, monkeypatch):
    paths = generate(models["t2v"], tmp_path / "set")
    monkeypatch.setattr("videocrafter.evaluation.generated_set.load", lambda *_: pytest.fail("loaded"))
    assert generate(models["t2v"], tmp_path / "set") == paths


def test_videos_of_another_set_are_never_mixed_in(models, tmp_path):
    first, _ = generate(models["t2v"], tmp_path / "set")
    with pytest.raises(OutputExistsError, match="holds videos of other settings"):
        generate(models["t2v"], tmp_path / "set", settings={"num_inference_steps": 2})
    with pytest.raises(OutputExistsError, match=r"0000-3\.mp4 was generated with another prompt"):
        generate(models["t2v"], tmp_path / "set", [PromptItem(prompt="a green kite")])
    other = save_tiny_pipeline(tmp_path / "other", image=False, defaults=DEFAULTS | {"guidance_scale": 2.0})
    with pytest.raises(OutputExistsError, match="holds videos of another model"):
        generate(other, tmp_path / "set")
    first.write_bytes(b"damaged")
    with pytest.raises(OutputExistsError, match="remove it to generate it again"):
        generate(models["t2v"], tmp_path / "set")


def test_a_set_is_bound_to_the_model_and_not_to_its_path(models, tmp_path, monkeypatch):
    paths = generate(models["t2v"], tmp_path / "set")
    monkeypatch.chdir(models["t2v"].parent)
    assert generate("./t2v", tmp_path / "set") == paths


def test_foreign_folders_and_missing_models_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="holds files that are not of this set"):
        generate("tiny", tmp_path)
    with pytest.raises(GenerationError, match="no-such-model"):
        generate("no-such-model", tmp_path / "set")
    assert not (tmp_path / "set" / SET_FILE).exists()


@pytest.mark.parametrize("name", ["column.json", "0003-12.mp4", "text/0000.npz"])
def test_folders_of_earlier_versions_are_recognised(models, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(OutputExistsError, match=r"without generation\.json, as an earlier version made them; choose"):
        generate(models["t2v"], tmp_path)
    assert not (tmp_path / SET_FILE).exists()


def test_input_images_are_recorded_and_checked(models, tmp_path):
    image = tmp_path / "kite.png"
    write_image(image, np.full((16, 16, 3), 90, np.uint8))
    items = [PromptItem(prompt="a red kite", image=image)]
    generate(models["i2v"], tmp_path / "set", items)
    (entry,) = read_video_set(tmp_path / "set").entries
    assert entry.image is not None
    assert entry.image.samefile(image)
    assert entry.metadata["image"] == "../kite.png", "no absolute path is recorded"
    write_image(image, np.full((16, 16, 3), 91, np.uint8), overwrite=True)
    with pytest.raises(OutputExistsError, match="another image"):
        generate(models["i2v"], tmp_path / "set", items)
    with pytest.raises(ValueError, match="'a blue boat' has no image"):
        generate(models["i2v"], tmp_path / "none", [*items, ITEMS[1]])


def test_a_text_to_video_model_ignores_images(models, tmp_path):
    write_image(tmp_path / "kite.png", np.full((16, 16, 3), 90, np.uint8))
    notes = []
    items = [PromptItem(prompt="a red kite", image=tmp_path / "kite.png")]
    (path,) = generate(models["t2v"], tmp_path / "set", items, note=notes.append)
    assert "image" not in read_metadata(path)
    assert notes == [f"{models['t2v']} is a text-to-video model; the images of the prompts are not used"]
