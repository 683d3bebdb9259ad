"""docs/diffusers.md is true: its Python runs, and a test covers each difference that it lists."""

import re
from pathlib import Path
from typing import Any

import diffusers.utils
import numpy as np
import pytest

from videocrafter.media.video_file import probe, write_video

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "diffusers.md").read_text(encoding="utf-8")
DIFFERENCES = [
    row.split(" | ")[0].removeprefix("| ")
    for row in GUIDE.partition("## Differences")[2].splitlines()
    if row.startswith("| ") and not row.startswith("| here")
]
UNIT = "tests/unit/pipelines"
# The beginning of each difference, and the tests that would fail without it.
COVERED = {
    "The network returns a tensor": (
        "tests/unit/models/test_unet.py",
        "test_the_prediction_has_the_shape_of_the_sample",
    ),
    "`seeds`, one per video": (f"{UNIT}/test_text_to_video.py", "test_bytes_do_not_depend_on_the_batch"),
    "A single `generator`": (f"{UNIT}/test_randomness.py", "test_one_generator_decides_all_seeds"),
    "Pickled weights": (
        f"{UNIT}/test_component_loading.py",
        "test_pickled_weights_are_refused_with_a_way_to_convert_them",
    ),
    "LoRAs are not loaded while": (f"{UNIT}/test_lora.py", "are offloaded one by one"),
    "`hotswap=True`": (f"{UNIT}/test_lora.py", "hotswap is not supported"),
    "Weights of LoRAs cannot be nested": (f"{UNIT}/test_lora.py", '{"down": {"block_1": 1.0}}'),
    "Adapters with DoRA": (f"{UNIT}/test_lora.py", "test_adapters_of_peft_that_are_more_than_a_lora_are_refused"),
    "`fuse_lora(adapter_names=…)`": (f"{UNIT}/test_lora.py", "test_networks_and_loras_are_fused_one_by_one"),
    "Attention slicing": (f"{UNIT}/test_offloading.py", "test_an_option_without_effect_is_refused"),
    "FreeU, fusing": ("tests/unit/models/test_network_options.py", "test_an_option_without_effect_is_refused"),
    "Offloading to disk": (f"{UNIT}/test_offloading.py", "test_a_folder_with_offloaded_weights_is_not_reused"),
    "`guidance_scale` above 1": (f"{UNIT}/test_step_end.py", "test_guidance_can_change_at_every_step"),
    "Callbacks for other models": (f"{UNIT}/test_step_end.py", "test_wrong_callbacks_are_refused"),
    "Long videos, loops": (f"{UNIT}/test_long_video.py", "test_noise_cannot_be_given"),
}


def test_every_difference_is_covered_by_a_test():
    assert [row for row in DIFFERENCES if not row.startswith(tuple(COVERED))] == []
    assert len(DIFFERENCES) == len(COVERED)
    for file, words in COVERED.values():
        assert words in (ROOT / file).read_text(encoding="utf-8"), (file, words)


def test_the_python_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[np.ndarray] = []

    def export_to_video(frames: np.ndarray, path: str, fps: int) -> None:
        # As diffusers does it, which needs other packages to encode.
        written.append(np.stack([(frame * 255).astype(np.uint8) for frame in frames]))
        write_video(path, written[-1], playback_fps=fps)

    monkeypatch.setattr(diffusers.utils, "export_to_video", export_to_video)
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL):
        exec(block, names)
        if "pipeline" in names:
            names["pipeline"].set_progress_bar_config(disable=True)
    assert probe("rocket.mp4").num_frames == 16
    shown = names["pipeline"](
        "a rocket flying up over a green meadow",
        num_inference_steps=12,
        generator=names["torch"].Generator().manual_seed(1),
        output_type="uint8",
    ).frames[0]
    assert np.abs(written[0].astype(int) - shown).max() <= 1
    assert names["pipeline"].interrupt is False
