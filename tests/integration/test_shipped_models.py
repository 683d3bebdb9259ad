"""The shipped models do what their prompts say, as far as the shipped judge sees it."""

import pytest
import torch

from videocrafter.evaluation.exam.judging import judge_videos, load_judge
from videocrafter.pipelines.loading import load_pipeline

PROMPTS = {
    "a panda moving left on a green meadow": ("panda", "left", "green meadow"),
    "a car moving right over a blue sky": ("car", "right", "blue sky"),
    "a mushroom moving up on a sandy beach": ("mushroom", "up", "sandy beach"),
}


def test_the_student_needs_four_steps_and_no_guidance():
    student, teacher = load_pipeline("tiny-t2v-fast"), load_pipeline("tiny-t2v")
    settings, usual = student.generation_defaults, teacher.generation_defaults
    assert (settings.num_inference_steps, settings.step_counts, settings.guidance_scale) == (4, (4,), 1.0)
    assert len(settings.few_step_times or ()) == 4
    for same in ("height", "width", "num_frames", "fps", "fps_range"):
        assert getattr(settings, same) == getattr(usual, same), same


@pytest.mark.parametrize("model", ["tiny-t2v-fast", "tiny-t2v"])
def test_text_to_video_follows_its_prompts(model: str):
    pipeline = load_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    steps = None if model == "tiny-t2v-fast" else 10
    frames = pipeline(list(PROMPTS), seeds=1, num_inference_steps=steps, output_type="pt").frames
    seen = judge_videos(load_judge(), 2 * torch.as_tensor(frames) - 1)
    assert list(zip(seen.subjects, seen.motions, seen.scenes, strict=True)) == list(PROMPTS.values())
