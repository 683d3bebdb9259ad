import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from tests.tiny_models import DEFAULTS, tiny_pipeline
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.diffusion.schedulers import SCHEDULERS, build_scheduler
from videocrafter.pipelines import prompt_encoding
from videocrafter.pipelines.text_to_video import TextToVideoPipeline


def difference(first, second):
    """Return the greatest difference of frames, in steps of bytes."""
    return np.abs((first - second) * 255).max()


def test_recommended_settings_are_used_and_frames_are_floats_from_0_to_1(t2v):
    result = t2v("a cat over the blue sky", seeds=1)
    assert result.frames.shape == (1, DEFAULTS["num_frames"], DEFAULTS["height"], DEFAULTS["width"], 3)
    assert result.frames.dtype == np.float32
    assert result.frames.min() >= 0
    assert 0.2 < result.frames.max() <= 1
    assert result.frames.std() > 0.01
    assert result.seeds == (1,)
    assert set(result.seconds) == {"encode", "denoise", "decode"}


def test_order_of_the_output_is_prompt_by_prompt(t2v):
    both = t2v(["a cat", "a rocket"], seeds=3, num_videos_per_prompt=2).frames
    rocket = t2v("a rocket", seeds=4).frames
    assert difference(both[3], rocket[0]) <= 1


# Of the first order, of the second, of several steps, of several steps with a corrector, and with noise of their own.
@pytest.mark.parametrize("name", ["ddim", "heun", "dpm++2m", "unipc", "euler-a", "lcm"])
def test_a_video_does_not_depend_on_its_batch_whatever_the_kind_of_scheduler(name):
    # In double precision: from a noise level of 4096, some solvers amplify the rounding of a batched matrix product
    # in single precision beyond this tolerance.
    pipeline = tiny_pipeline(image=False).to(torch.float64)
    pipeline.scheduler = build_scheduler(name, pipeline.scheduler.config)
    settings = {"num_inference_steps": 4, "output_type": "latent", "eta": 1.0 if name == "ddim" else None}
    batch = pipeline(["a cat", "a rocket left", "red car"], seeds=[1, 2, 3], **settings).frames
    alone = pipeline("a rocket left", seeds=2, **settings).frames
    other = pipeline("a rocket left", seeds=5, **settings).frames
    scale = float(alone.abs().max())
    torch.testing.assert_close(batch[1] / scale, alone[0] / scale, rtol=0, atol=1e-4)
    assert (other - alone).abs().max() / scale > 1e-2


def test_the_official_sampler_keeps_a_video_apart_from_its_batch_too():
    pipeline = tiny_pipeline(image=False, signal_scale=0.3).to(torch.float64)
    pipeline.scheduler = OfficialDDIMScheduler(signal_scale=0.3)
    settings = {"num_inference_steps": 4, "output_type": "latent", "eta": 1.0}
    batch = pipeline(["a cat", "a rocket left"], seeds=[1, 2], **settings).frames
    alone = pipeline("a rocket left", seeds=2, **settings).frames
    torch.testing.assert_close(batch[1], alone[0], rtol=0, atol=1e-4 * float(alone.abs().max()))


def test_bytes_do_not_depend_on_the_batch(t2v):
    batch = t2v(["a cat", "red car", "", "rocket"], seeds=[4, 5, 6, 7], fps=[4, 8, 16, 24]).frames
    alone = t2v("red car", seeds=5, fps=8).frames
    assert difference(batch[1], alone[0]) <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a rocket"},
        {"fps": 20.0},
        {"seeds": 2},
        {"guidance_scale": 9.0},
        {"negative_prompt": "night"},
        {"guidance_rescale": 1.0},
        {"eta": 1.0},
        {"num_inference_steps": 5},
        {"temporal_guidance_scale": 1.0},
        {"guidance_interval": (0.3, 1.0)},
    ],
)
def test_every_setting_changes_the_video(t2v, change):
    base = {"prompt": "a cat over the night", "seeds": 1, "output_type": "latent"}
    before, after = t2v(**base).frames, t2v(**{**base, **change}).frames
    assert (before - after).abs().max() > 1e-4


def test_guidance_of_one_or_less_runs_one_branch_and_ignores_the_negative_prompt(t2v):
    base = {"prompt": "a cat", "seeds": 1, "output_type": "latent", "guidance_scale": 1.0}
    assert torch.equal(t2v(**base).frames, t2v(**base, negative_prompt="night").frames)
    assert torch.equal(t2v(**base).frames, t2v(**{**base, "guidance_scale": 0.0}).frames)


def test_output_types_show_the_same_video(t2v):
    base = {"prompt": "a cat", "seeds": 1}
    frames = t2v(**base).frames
    pixels = t2v(**base, output_type="pt").frames
    pictures = t2v(**base, output_type="pil").frames
    as_bytes = t2v(**base, output_type="uint8").frames
    assert pixels.shape == (1, 4, 3, 16, 16)
    np.testing.assert_array_equal(pixels.permute(0, 1, 3, 4, 2).numpy(), frames)
    assert as_bytes.dtype == np.uint8
    assert np.abs(frames * 255 - as_bytes).max() < 0.51
    np.testing.assert_array_equal(np.asarray(pictures[0][2]), as_bytes[0, 2])


def test_other_sizes_and_lengths_work(t2v):
    assert t2v("a cat", seeds=1, height=24, width=32, num_frames=6).frames.shape == (1, 6, 24, 32, 3)
    assert t2v("a cat", seeds=1, num_frames=1).frames.shape == (1, 1, 16, 16, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height": 20}, r"height must be a multiple of 8, but is 20; 16 and 24 are the nearest"),
        ({"width": 4}, r"width must be a multiple of 8, but is 4; 8 is the nearest"),
        ({"width": -8}, r"width .* -8; 8 is"),
        ({"num_frames": 0}, "num_frames must be between 1 and 16, but is 0"),
        ({"num_frames": 17}, "between 1 and 16, but is 17"),
        ({"fps": 0}, "fps"),
        ({"fps": [4, 8]}, "fps has 2 values for 1 prompts"),
        ({"fps": float("nan")}, "fps"),
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1, but is 0"),
        ({"num_inference_steps": 1001}, "between 1 and 1000, but is 1001"),
        ({"guidance_scale": -1.0}, "guidance_scale must be at least 0"),
        ({"num_videos_per_prompt": 0}, "at least 1"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"prompt": [1]}, "prompt must be"),
        ({"prompt": 1}, "prompt must be"),
        ({"prompt": None}, "pass either prompt or prompt_embeds, but neither"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt has 2 values"),
        ({"output_type": "gif"}, "np, pt, pil, latent"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_allowed(t2v, wrong, message):
    with pytest.raises(ValueError, match=message):
        t2v(**{"prompt": "a cat", "seeds": 1, **wrong})


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.4, 0.9)])
def test_all_kinds_of_guidance_keep_a_video_apart_from_its_batch(t2v, interval):
    settings = {"temporal_guidance_scale": 1.5, "guidance_rescale": 0.5, "guidance_interval": interval}
    batch = t2v(["a cat", "rocket"], seeds=[1, 2], output_type="latent", **settings).frames
    alone = t2v("rocket", seeds=2, output_type="latent", **settings).frames
    torch.testing.assert_close(batch[1], alone[0], rtol=0, atol=1e-3)


def test_an_unknown_image_fit_is_refused(t2v):
    with pytest.raises(ValueError, match="stretch, crop, pad, but is 'squash'"):
        t2v.check_inputs("a cat", image_fit="squash")


def test_a_scheduler_is_exchanged_by_name_and_knows_the_models_schedule():
    pipeline = tiny_pipeline(image=False, signal_scale=0.3)
    stored = pipeline.scheduler
    assert pipeline.use_scheduler() == []
    assert pipeline.scheduler is stored
    assert pipeline.use_scheduler("euler") == []
    assert type(pipeline.scheduler).__name__ == "EulerDiscreteScheduler"
    assert len(pipeline.scheduler.config.trained_betas) == 1000
    # Only ddim-official has the legacy steps; another spacing switches to stock DDIM.
    pipeline.scheduler = stored
    pipeline.use_scheduler(spacing="legacy")
    assert type(pipeline.scheduler).__name__ == "OfficialDDIMScheduler"
    assert pipeline.scheduler.config.signal_scale == 0.3
    pipeline.use_scheduler(spacing="linspace")
    assert type(pipeline.scheduler) is DDIMScheduler
    pipeline.use_scheduler("dpm++2m")
    pipeline.use_scheduler(spacing="linspace")
    assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    with pytest.raises(ValueError, match="unknown scheduler 'eular'"):
        pipeline.use_scheduler("eular")


HAVE_FIXED_STEPS = ("ddim-official", "few-step", "lcm")


@pytest.mark.parametrize("name", [None, *(name for name in SCHEDULERS if name not in HAVE_FIXED_STEPS)])
def test_a_scaled_model_that_predicts_noise_samples_from_pure_noise(name):
    change = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(0.7))
    pipeline = tiny_pipeline(image=False, signal_scale=0.7)
    pipeline.scheduler = OfficialDDIMScheduler(trained_betas=change.trained_betas, signal_scale=0.7)
    notes = pipeline.use_scheduler(name, zero_terminal_snr=True)
    assert "not trained" in notes[0]
    latents = pipeline("a cat", seeds=1, num_inference_steps=4, output_type="latent").frames
    assert torch.isfinite(latents).all()


def test_the_callback_is_shown_where_the_video_is_going(t2v):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        seen.append((tensors["latents"], tensors["denoised"]))
        return {}

    final = t2v("a cat", seeds=1, callback_on_step_end=callback, output_type="latent").frames
    assert len(seen) == t2v.num_steps(t2v.check_inputs("a cat", seeds=1)) == 3
    torch.testing.assert_close(seen[-1][1], final, atol=1e-3, rtol=0)
    assert (seen[0][1] - seen[0][0]).abs().max() > 0.1


def test_eta_is_refused_where_it_would_be_ignored():
    pipeline = tiny_pipeline(image=False)
    pipeline.scheduler = build_scheduler("unipc", pipeline.scheduler.config)
    with pytest.raises(ValueError, match=r"eta must be 0 with UniPC\w+, but is 0\.5; only DDIM uses eta"):
        pipeline("a cat", eta=0.5)


def test_a_schedulers_own_limit_is_found_before_anything_is_computed():
    pipeline = tiny_pipeline(image=False)
    pipeline.scheduler = build_scheduler("lcm", pipeline.scheduler.config)
    with pytest.raises(ValueError):
        pipeline.check_inputs("a cat", num_inference_steps=900)


def test_notes_name_what_is_unusual(t2v):
    def notes(prompt, **settings):
        return t2v.notes(t2v.check_inputs(prompt, seeds=1, **settings))

    assert notes("a cat over the blue sky") == []
    assert "empty" in notes("")[0]
    assert "did you mean 'rocket'?" in notes("two rockets")[0]
    assert "'gorgeous'" in notes("a gorgeous cat")[0]
    assert "trained on 4 frames" in notes("a cat", num_frames=8)[0]
    assert "fps 4 to 24" in notes("a cat", fps=30)[0]
    assert "16x16" in notes("a cat", width=24)[0]
    assert notes("a cat", num_frames=1) == []


def test_a_student_notes_what_it_was_not_distilled_for():
    recommended = {**DEFAULTS, "num_inference_steps": 2, "guidance_scale": 1.0, "step_counts": [2]}
    pipeline = tiny_pipeline(image=False, defaults=recommended)
    pipeline.use_scheduler("few-step")

    def notes(**settings):
        return pipeline.notes(pipeline.check_inputs("a cat over the blue sky", seeds=1, **settings))

    assert notes() == []
    assert "distilled for 2 steps; quality is lower at 25" in notes(num_inference_steps=25)[0]
    assert "leave guidance_scale at 1" in notes(guidance_scale=4.0)[0]
    assert "leave guidance_scale at 1" in notes(temporal_guidance_scale=1.0)[0]
    pipeline.use_scheduler("ddim")
    assert "another sampler than few-step" in notes()[0]


def test_callback_follows_the_steps(t2v):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        seen.append((pipeline is t2v, step, tuple(tensors["latents"].shape)))
        return {}

    t2v("a cat", seeds=1, callback_on_step_end=callback)
    assert seen == [(True, step, (1, 4, 4, 2, 2)) for step in range(3)]


def test_prompts_are_encoded_once_each(t2v, monkeypatch):
    encoded = []
    original = prompt_encoding.encode_text

    def spy(tokenizer, text_encoder, prompts, device):
        encoded.extend(prompts)
        return original(tokenizer, text_encoder, prompts, device)

    monkeypatch.setattr(prompt_encoding, "encode_text", spy)
    t2v(["a cat", "a cat", "rocket"], seeds=1, num_videos_per_prompt=2)
    assert sorted(encoded) == ["", "a cat", "rocket"]


def test_saved_and_loaded_pipeline_makes_the_same_video(t2v, tmp_path):
    t2v.save_pretrained(tmp_path / "saved")
    loaded = TextToVideoPipeline.from_pretrained(tmp_path / "saved")
    loaded.set_progress_bar_config(disable=True)
    assert loaded.generation_defaults == t2v.generation_defaults
    assert loaded.knowledge == t2v.knowledge
    before, after = t2v("a cat", seeds=1).frames, loaded("a cat", seeds=1).frames
    assert difference(before, after) == 0


def test_signal_scale_survives_saving_and_changes_the_video(t2v, tmp_path):
    scaled = tiny_pipeline(image=False, signal_scale=0.3)
    scaled.save_pretrained(tmp_path / "saved")
    loaded = TextToVideoPipeline.from_pretrained(tmp_path / "saved")
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config["signal_scale"] == 0.3
    plain = t2v("a cat", seeds=1, output_type="latent").frames
    assert (loaded("a cat", seeds=1, output_type="latent").frames - plain).abs().max() > 1e-3


def test_unknown_keys_in_the_configuration_are_refused():
    with pytest.raises(ValueError, match="num_frmaes"):
        tiny_pipeline(image=False, defaults={"num_frmaes": 3})
    with pytest.raises(ValueError, match="colours"):
        tiny_pipeline(image=False, knowledge={"colours": ["red"]})


def test_runs_in_bfloat16():
    pipeline = tiny_pipeline(image=False).to(dtype=torch.bfloat16)
    assert pipeline("a cat", seeds=1).frames.shape == (1, 4, 16, 16, 3)


def test_splitting_a_request_changes_nothing(t2v):
    request = t2v.check_inputs(["a cat", "rocket"], seeds=1, num_videos_per_prompt=2, fps=[4, 20])
    parts = request.split(3)
    assert [part.num_videos for part in parts] == [3, 1]
    assert parts[1].prompts == ("rocket",)
    assert parts[1].fps == (20.0,)
    assert parts[1].seeds == (2,)


def test_a_call_within_a_call_changes_neither():
    """As with two threads: the state of a running sampling is not the pipeline's."""
    pipeline = tiny_pipeline(image=False)
    pipeline.use_scheduler("dpm++2m")
    given = pipeline.scheduler

    def make(steps, callback=None):
        settings = {"seeds": 1, "num_inference_steps": steps, "output_type": "latent"}
        return pipeline("a cat", callback_on_step_end=callback, **settings).frames

    alone, others = {steps: make(steps) for steps in (2, 4)}, []
    inside = make(4, lambda *_: others.append(make(2)) or {})
    assert torch.equal(inside, alone[4])
    assert all(torch.equal(other, alone[2]) for other in others)
    assert len(others) == 4
    assert pipeline.scheduler is given
    assert given.num_inference_steps is None
