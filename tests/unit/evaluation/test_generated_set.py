from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.tiny_models import tiny_pipeline
from tests.unit.evaluation.conftest import WEIGHTLESS
from videocrafter.evaluation.generated_set import generate_set
from videocrafter.evaluation.prompt_list import PromptItem
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.media.errors import OutputExistsError
from videocrafter.media.video_file import probe

PROTOCOL = replace(WEIGHTLESS, seeds=(0, 1), num_frames=2, height=16, width=16)
ITEMS = [PromptItem(prompt="a red kite"), PromptItem(prompt="a blue boat", seed=7)]


def generate(pipeline, folder, items=ITEMS, **options):
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 1, "guidance_scale": None} | options.pop("settings", {})
    return generate_set(pipeline, items, PROTOCOL, folder, model="m", settings=settings, **options)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline(image=False)


def test_each_prompt_and_seed_has_a_video_with_its_recording(pipeline, tmp_path):
    described = generate(pipeline, tmp_path, batch_size=2)
    videos = read_video_set(tmp_path, ITEMS)
    assert [(entry.name, entry.prompt, entry.seed) for entry in videos.entries] == [
        ("0000-0.mp4", "a red kite", 0),
        ("0000-1.mp4", "a red kite", 1),
        ("0001-7.mp4", "a blue boat", 7),
    ]
    assert videos.problems == ()
    assert probe(videos.entries[0].path).num_frames == 2
    assert described["settings"] == {"num_frames": 2, "height": 16, "width": 16, "num_inference_steps": 1}
    assert len(described["weights_sha256"]) == 64


def test_finished_videos_are_kept_and_missing_ones_made_again(pipeline, tmp_path):
    generate(pipeline, tmp_path)
    before = {path: path.read_bytes() for path in sorted(tmp_path.glob("*.mp4"))}
    lost, *kept = before
    times = {path: path.stat().st_mtime_ns for path in kept}
    lost.unlink()
    lost.with_name(f"{lost.name}.json").unlink()
    steps = []
    generate(pipeline, tmp_path, on_progress=lambda *step: steps.append(step))
    assert steps == [(3, 3)]
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    assert lost.read_bytes() == before[lost]


def test_videos_of_another_run_are_never_mixed_in(pipeline, tmp_path):
    generate(pipeline, tmp_path)
    with pytest.raises(OutputExistsError, match="was generated with another setting"):
        generate(pipeline, tmp_path, settings={"num_inference_steps": 2})
    with pytest.raises(OutputExistsError, match="was generated with another prompt"):
        generate(pipeline, tmp_path, [PromptItem(prompt="a green kite")])
    (tmp_path / "0000-0.mp4").write_bytes(b"damaged")
    with pytest.raises(OutputExistsError, match="remove it"):
        generate(pipeline, tmp_path)


def test_image_to_video_needs_the_images_of_the_list(tmp_path):
    pipeline = tiny_pipeline(image=True)
    image = tmp_path / "kite.png"
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(image)
    generate(pipeline, tmp_path / "out", [replace(ITEMS[1], image=image)])
    (entry,) = read_video_set(tmp_path / "out").entries
    assert entry.image is not None
    assert entry.image.samefile(image)
    assert entry.metadata["image"] == "../kite.png", "no absolute path is recorded"
    # The recommended settings count, and the content of the image, not its name.
    assert entry.metadata["effective_settings"]["num_frames"] == 2
    Image.fromarray(np.full((16, 16, 3), 91, np.uint8)).save(image)
    with pytest.raises(OutputExistsError, match="another input image"):
        generate(pipeline, tmp_path / "out", [replace(ITEMS[1], image=image)])
    with pytest.raises(ValueError, match="'a red kite' has no image"):
        generate(pipeline, tmp_path / "none", ITEMS[:1])
