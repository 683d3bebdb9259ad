"""Too little memory is reported before anything is loaded, with settings that would fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from videocrafter.generation import memory_check
from videocrafter.generation.request import GenerateOptions, PromptRow
from videocrafter.pipelines.generation_memory import Workload, count_parameters, memory_need, network_configs

CPU = torch.device("cpu")
ASKED = GenerateOptions(
    output=Path("v.mp4"),
    rows=(PromptRow(prompt="a"),) * 4,
    height=128,
    width=256,
    num_frames=16,
    batch_size=4,
    window=16,
)


@pytest.fixture
def there_is(monkeypatch):
    def set_free(num_bytes):
        monkeypatch.setattr(memory_check, "available_memory", lambda device: num_bytes)

    return set_free


def complaint(options, folder, dtype=torch.float32):
    with pytest.raises(ValueError) as caught:
        memory_check.check_memory(options, folder, CPU, dtype)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("free", [2**40, None])
def test_what_fits_passes_and_so_does_what_cannot_be_known(t2v_folder, there_is, free):
    there_is(2**20)
    assert "cpu has 1 MiB left" in complaint(ASKED, t2v_folder)
    there_is(free)
    memory_check.check_memory(ASKED, t2v_folder, CPU, torch.float32)


def test_settings_that_would_fit_are_named_and_do_fit(t2v_folder, there_is):
    unet, vae = network_configs(t2v_folder)
    asked = Workload(num_videos=4, branches=2, num_frames=16, height=128, width=256, window=16)
    needed = memory_need(unet, vae, count_parameters(t2v_folder), asked).total
    there_is(needed)
    memory_check.check_memory(ASKED, t2v_folder, CPU, torch.float32)
    there_is(needed - 1)
    text = complaint(ASKED, t2v_folder)
    for part in ("256x128 with 16 frames x 4 videos", "`batch_size` 1", "`dtype` bfloat16"):
        assert part in text
    memory_check.check_memory(replace(ASKED, batch_size=1), t2v_folder, CPU, torch.float32)
    memory_check.check_memory(ASKED, t2v_folder, CPU, torch.bfloat16)


def test_several_changes_together_are_named_where_one_is_not_enough(t2v_folder, there_is):
    there_is(4 * 2**20)
    text = complaint(ASKED, t2v_folder)
    advice = text.partition("these would fit: ")[2].partition(";")[0].split(", or ")
    assert advice
    for line in advice:
        words = line.split()
        given = dict(zip(words[::2], words[1::2], strict=True))
        changed = replace(
            ASKED,
            batch_size=int(given.get("`batch_size`", 4)),
            height=int(given.get("`height`", 128)),
            width=int(given.get("`width`", 256)),
            num_frames=int(given.get("`num_frames`", 16)),
        )
        dtype = torch.bfloat16 if "`dtype`" in given else torch.float32
        memory_check.check_memory(changed, t2v_folder, CPU, dtype)


def test_ways_to_save_memory_come_before_smaller_videos(t2v_folder, there_is):
    unet, vae = network_configs(t2v_folder)
    one = replace(ASKED, rows=ASKED.rows[:1], batch_size=1)
    asked = Workload(num_videos=1, branches=2, num_frames=16, height=128, width=256, window=16)
    there_is(int(0.8 * memory_need(unet, vae, count_parameters(t2v_folder), asked).total))
    text = complaint(one, t2v_folder)
    assert text.index("`low_memory` makes the same video") < text.index("these would fit: ")
    assert "low_memory" not in complaint(replace(one, devices=2), t2v_folder), "which it does not plan for"


def test_where_nothing_fits_that_is_said(t2v_folder, there_is):
    there_is(100)
    assert "no smaller setting fits" in complaint(ASKED, t2v_folder)
    memory_check.check_memory(replace(ASKED, ignore_memory=True), t2v_folder, CPU, torch.float32)


def test_guidance_costs_memory(t2v_folder, i2v_folder, there_is):
    unet, vae = network_configs(i2v_folder)
    for branches, settings in (
        (1, {"guidance_scale": 1.0}),
        (2, {"guidance_scale": 3.0}),
        (3, {"guidance_scale": 3.0, "image_guidance_scale": 2.0}),
    ):
        asked = Workload(num_videos=4, branches=branches, num_frames=16, height=128, width=256, window=16)
        needed = memory_need(unet, vae, count_parameters(i2v_folder), asked).total
        there_is(needed)
        memory_check.check_memory(replace(ASKED, sampling=settings), i2v_folder, CPU, torch.float32)
        there_is(needed - 1)
        assert "4 videos" in complaint(replace(ASKED, sampling=settings), i2v_folder)


def test_the_command_line_says_it_in_one_line_and_goes_on_if_told(make, tmp_path, there_is):
    there_is(2**20)
    result = make("a cat", "-o", tmp_path / "v.mp4", "--height", 256, "--width", 256, "--steps", 1)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "--ignore-memory" in result.stderr
    assert not (tmp_path / "v.mp4").exists()
    ignoring = ("--ignore-memory", "--height", 64, "--width", 64, "--steps", 1)
    assert make("a cat", "-o", tmp_path / "v.mp4", *ignoring).exit_code == 0


def test_all_frames_of_a_long_video_count(t2v_folder, there_is):
    asked = replace(ASKED, height=64, width=64, num_frames=200_000, batch_size=1, window=None)
    there_is(2 * 2**30)
    text = complaint(asked, t2v_folder)
    assert "64x64 with 200000 frames" in text
    assert "`num_frames` 50000" in text
    there_is(20 * 2**30)
    memory_check.check_memory(asked, t2v_folder, CPU, torch.float32)
