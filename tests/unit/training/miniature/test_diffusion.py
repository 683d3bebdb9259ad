import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_parts import NETWORK, WORLD, build, fill_zeros, video_config, video_task
from videocrafter.data.sprite_world.world import MOTIONS, SCENES, SUBJECTS, SpriteWorld, is_held_out
from videocrafter.diffusion.schedule import alphas_cumprod, cosine_betas_shifted, linear_betas
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.miniature import diffusion as video_diffusion
from videocrafter.training.miniature.diffusion import VideoDiffusionTask
from videocrafter.training.miniature.latent_clips import LatentClips
from videocrafter.training.miniature.networks import NoiseConfig
from videocrafter.training.saving.state import trained_parameters

IMAGE_PHASES = ("image_mapping", "image_to_video")
# Its latents have several positions at every level of the network, so that spatial attention gets gradients.
LARGER = replace(WORLD, height=32, width=32)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def calls_of(module: torch.nn.Module) -> list[tuple[Any, ...]]:
    """Return a list that collects the arguments of every call of a network."""
    calls: list[tuple[Any, ...]] = []
    module.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
    return calls


def many_clips(count: int, *, images: bool = False) -> LatentClips:
    world = SpriteWorld(WORLD)
    script = world.image_script if images else world.script
    scripts = tuple(script(index % 50) for index in range(count))
    return LatentClips(scripts=scripts, latents=torch.zeros(count, 1, 1, 1, 1), image_tokens=None)


# Batches


def test_a_batch_is_a_function_of_seed_stage_and_step(parts: Path) -> None:
    task = video_task(parts, num_clips=64)
    task.batch(7)
    batch, again = task.batch(3, 1), video_task(parts, num_clips=64).batch(3, 1)
    assert batch.scripts == again.scripts
    assert torch.equal(batch.latents, again.latents)
    others = [task.batch(4, 1), task.batch(3), video_task(parts, seed=1, num_clips=64).batch(3, 1)]
    others.append(video_task(parts, stage_index=1, num_clips=64).batch(3, 1))
    assert not any(batch.scripts == other.scripts for other in others)


def test_training_shows_no_held_out_combination(parts: Path) -> None:
    task = video_task(parts, num_clips=128, num_images=128, batch_size=32, image_batch_size=32, image_share=0.5)
    scripts = {script for step in range(12) for script in task.batch(step).scripts}
    assert {script.image_frame is None for script in scripts} == {True, False}
    assert len(scripts) > 100
    assert not any(is_held_out(one.subject, one.motion, one.scene) for one in scripts)


def test_a_share_of_the_batches_are_images(parts: Path) -> None:
    task = video_task(parts, batch_size=2, image_batch_size=4, image_share=0.25)
    batches = [task.batch(step) for step in range(200)]
    frames = [batch.latents.shape[2] for batch in batches]
    assert set(frames) == {1, 4}
    assert 0.17 < frames.count(1) / 200 < 0.33
    assert {len(batch) for batch in batches if batch.latents.shape[2] == 1} == {4}
    assert {len(batch) for batch in batches if batch.latents.shape[2] == 4} == {2}
    assert task.num_samples(batches[frames.index(1)]) == 4
    clips_only = video_task(parts, image_share=0.0)
    assert {clips_only.batch(step).latents.shape[2] for step in range(20)} == {4}


def test_images_can_be_larger_than_clips(parts: Path) -> None:
    task = video_task(parts, image_share=0.5, image_scale=2)
    sizes = {batch.latents.shape[2:] for batch in map(task.batch, range(20))}
    assert sizes == {(4, 2, 2), (1, 4, 4)}
    with pytest.raises(ValueError, match="image_scale is 0"):
        video_task(parts, image_scale=0)


def test_subjects_can_be_kept_to_images(parts: Path) -> None:
    clips, images = SUBJECTS[:3], SUBJECTS[3:5]
    world = replace(WORLD, subjects=clips)
    task = video_task(parts, image_share=0.5, world=world, image_subjects=images, num_clips=64, num_images=64)
    shown: dict[bool, set[str]] = {True: set(), False: set()}
    for step in range(24):
        for script in task.batch(step).scripts:
            shown[script.image_frame is not None].add(script.subject)
    assert shown == {False: set(clips), True: {*clips, *images}}
    assert task.config.gauged_world().subjects == clips
    with pytest.raises(ValueError, match=f"image_subjects contains {clips[0]}, which clips show as well"):
        video_task(parts, world=world, image_subjects=clips[:1])


def test_steps_of_one_epoch_show_every_clip_once(parts: Path) -> None:
    task = video_task(parts, image_share=0.0, num_clips=16, batch_size=4)
    for epoch in range(3):
        shown = [script for step in range(4) for script in task.batch(4 * epoch + step).scripts]
        assert len(shown) == len(set(shown)) == 16


@pytest.mark.parametrize("name", ["batch_size", "image_batch_size"])
def test_a_batch_is_made_of_whole_blocks(parts: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is 5; it must be a multiple of block_size \(2\)"):
        video_config(parts, **{name: 5})


# The loss


def test_noise_levels_cover_the_whole_schedule_evenly(parts: Path) -> None:
    task = video_task(parts, batch_size=16, image_share=0.0)
    calls = calls_of(task.unet)
    for seed in range(3):
        task.loss(task.batch(0), seeded(seed))
    for _, timesteps, *_ in calls:
        assert [int(level) * 16 // 1000 for level in timesteps.sort().values] == list(range(16))
    levels = torch.stack([call[1] for call in calls])
    assert len(set(map(tuple, levels.tolist()))) == 3, "levels are drawn anew each time"
    assert (levels[0].sort().values != levels[0]).any(), "a clip's level does not depend on its position"


def test_a_power_above_one_trains_on_little_noise_more_often(parts: Path) -> None:
    task = video_task(parts, batch_size=8, image_share=0.0, timestep_power=2.0)
    calls = calls_of(task.unet)
    task.loss(task.batch(0), seeded())
    levels = calls[0][1].sort().values.tolist()
    strata = [((index / 8) ** 2 * 1000, ((index + 1) / 8) ** 2 * 1000) for index in range(8)]
    assert all(int(low) <= level < high for level, (low, high) in zip(levels, strata, strict=True))
    with pytest.raises(ValueError, match="timestep_power is 0"):
        video_config(parts, timestep_power=0)


def test_an_offset_that_rounds_up_stays_within_the_schedule(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = video_task(parts, batch_size=16, image_share=0.0)
    calls, batch = calls_of(task.unet), task.batch(0)
    largest = 1 - 2**-24
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, largest))
    task.loss(batch, seeded())
    assert int(calls[0][1].max()) == 999


def test_a_silent_network_has_the_loss_of_its_target(parts: Path) -> None:
    """A new network predicts zero, so its loss is the variance of the velocity, between those of data and noise."""
    task = video_task(parts, batch_size=16, image_share=0.0)
    batch = task.batch(0)
    spread = float(batch.latents.square().mean())
    loss, metrics = task.loss(batch, seeded())
    assert 0.8 * min(1.0, spread) < float(loss.detach()) < 1.2 * max(1.0, spread)
    assert set(metrics) == {"loss_clips"}
    assert float(metrics["loss_clips"]) == float(loss.detach())


def test_min_snr_weights_the_training_loss_and_no_validation(parts: Path, t2v_start: Path) -> None:
    plain, weighted = (video_task(parts, t2v_start, image_share=0.0, min_snr_gamma=gamma) for gamma in (None, 5.0))
    assert plain.validate() == weighted.validate()
    calls = calls_of(plain.unet)
    batch = plain.batch(0)
    loss, _ = plain.loss(batch, seeded())
    abar = plain.alphas_cumprod[calls[0][1]]
    # With v_prediction min(SNR, gamma) / (SNR + 1), which is min(alpha_bar, gamma * (1 - alpha_bar)).
    errors: list[torch.Tensor] = []
    losses_of = weighted._losses

    def record(*given: Any) -> torch.Tensor:
        errors.append(losses_of(*given).detach())
        return errors[-1]

    weighted._losses = record  # type: ignore[method-assign]
    got, metrics = weighted.loss(batch, seeded())
    assert float(errors[0].mean()) == pytest.approx(float(loss.detach()))
    assert float(got) == pytest.approx(float((errors[0] * torch.minimum(abar, 5 * (1 - abar))).mean()), rel=1e-5)
    assert got.dtype == torch.float32
    assert float(metrics["loss_clips"]) == float(got.detach())


def test_images_are_logged_by_themselves(parts: Path) -> None:
    task = video_task(parts, image_share=1.0)
    assert set(task.loss(task.batch(0), seeded())[1]) == {"loss_images"}


def test_the_loss_draws_from_its_generator_alone(parts: Path, t2v_start: Path) -> None:
    task = video_task(parts, t2v_start)
    batch = task.batch(0)
    losses = []
    for seed, global_seed in ((0, 0), (0, 1), (1, 0)):
        torch.manual_seed(global_seed)
        losses.append(float(task.loss(batch, seeded(seed))[0].detach()))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("phase", ["text_to_video", *IMAGE_PHASES])
def test_a_few_steps_lower_the_loss_of_a_batch(parts: Path, t2v_start: Path, phase: str) -> None:
    task = video_task(parts, t2v_start, phase=phase, image_share=0.0)
    batch = task.batch(0)
    optimizer = torch.optim.Adam(task.trainable_parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss, _ = task.loss(batch, seeded())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.97 * losses[0]


# Conditions


def test_conditions_are_dropped_as_often_as_configured(parts: Path) -> None:
    task = video_task(parts, text_dropout=0.1, image_dropout=0.2, both_dropout=0.3)
    captions, drops_image = task._drop_conditions(many_clips(4000), seeded())
    no_text, no_image = np.array([not caption for caption in captions]), drops_image.numpy()
    assert abs((no_text & ~no_image).mean() - 0.1) < 0.02
    assert abs((no_image & ~no_text).mean() - 0.2) < 0.02
    assert abs((no_text & no_image).mean() - 0.3) < 0.02


@pytest.mark.parametrize(
    ("dropout", "text", "image"),
    [({}, False, False), ({"text_dropout": 1.0}, True, False), ({"image_dropout": 1.0}, False, True)]
    + [({"both_dropout": 1.0}, True, True)],
)
def test_what_is_dropped_does_not_reach_the_network(
    parts: Path, monkeypatch: pytest.MonkeyPatch, dropout: dict[str, float], text: bool, image: bool
) -> None:
    task = video_task(parts, phase="image_mapping", image_share=0.0, **{"text_dropout": 0.0, **dropout})
    said: list[str] = []
    encode = video_diffusion.encode_text
    monkeypatch.setattr(video_diffusion, "encode_text", lambda *given: said.extend(given[2]) or encode(*given))
    calls = calls_of(task.projector)
    batch = task.batch(0)
    task.loss(batch, seeded())
    assert said == (["" for _ in batch.scripts] if text else batch.captions)
    grey = torch.zeros(4, 3, 16, 16)
    nothing = video_diffusion.encode_image(task.image_encoder, grey)
    torch.testing.assert_close(calls[0][0], nothing if image else batch.image_tokens)
    assert not torch.allclose(batch.image_tokens, nothing, atol=1e-3)


def test_a_text_to_video_network_is_told_text_and_fps_only(parts: Path) -> None:
    task = video_task(parts, image_share=0.0)
    calls = calls_of(task.unet)
    batch = task.batch(0)
    task.loss(batch, seeded())
    _, _, text, fps, image = calls[0]
    assert image is None
    assert fps.tolist() == [script.fps for script in batch.scripts]
    assert len(text) == len(batch)
    assert batch.image_tokens is None


def test_captions_that_name_only_the_motion_say_nothing_else(parts: Path) -> None:
    task = video_task(parts, text_dropout=0.0, motion_captions=1.0)
    clips = many_clips(300)
    captions, _ = task._drop_conditions(clips, seeded())
    assert all(captions)
    spoken = " ".join(captions).split()
    assert not set(SUBJECTS) & set(spoken)
    assert not {word for scene in SCENES for word in scene.split()} & set(spoken)
    motions = {(script.motion, script.speed) for script in clips.scripts}
    assert len(set(captions)) > len(motions) > len(MOTIONS)


def test_an_image_has_no_motion_to_name(parts: Path) -> None:
    task = video_task(parts, text_dropout=0.0, motion_captions=1.0)
    assert set(task._drop_conditions(many_clips(20, images=True), seeded())[0]) == {""}


def test_a_share_of_the_captions_names_only_the_motion(parts: Path) -> None:
    task = video_task(parts, text_dropout=0.0, motion_captions=0.7)
    captions, _ = task._drop_conditions(many_clips(2000), seeded())
    short = [not set(SUBJECTS) & set(caption.split()) for caption in captions]
    assert 0.65 < sum(short) / 2000 < 0.75


# Trainable parameters


def learning(task: VideoDiffusionTask) -> dict[str, torch.nn.Parameter]:
    """The trainable parameters after a backward pass, without zero weights that would hide a gradient."""
    for module in task.modules().values():
        fill_zeros(module)
    parameters = trained_parameters(task)
    task.loss(task.batch(0), seeded())[0].backward()
    return parameters


def test_text_to_video_trains_the_whole_network(parts: Path) -> None:
    task = video_task(parts, world=LARGER, image_share=0.0, text_dropout=0.0)
    parameters = learning(task)
    assert set(parameters) == {f"unet.{name}" for name, _ in task.unet.named_parameters()}
    assert [name for name, one in parameters.items() if one.grad is None or not one.grad.any()] == []


def test_the_mapping_phase_trains_the_projector_and_the_new_mappings(parts: Path, t2v_start: Path) -> None:
    task = video_task(parts, t2v_start, phase="image_mapping", world=LARGER, image_share=0.0)
    torch.nn.init.ones_(task.projector.norm_out.weight)  # A silent projector would hide its first layers.
    parameters = learning(task)
    projector = {f"image_projector.{name}" for name, _ in task.projector.named_parameters()}
    mappings = {name for name in parameters if name.endswith(("to_k_image.weight", "to_v_image.weight"))}
    assert set(parameters) == projector | mappings
    # One of each in every cross-attention of the network.
    attentions = [name for name, _ in task.unet.named_modules() if name.endswith("cross_attention")]
    assert len(mappings) == 2 * len(attentions) > 0
    assert [name for name, one in parameters.items() if one.grad is None or not one.grad.any()] == []
    assert all(one.grad is None for one in task.unet.parameters() if not one.requires_grad)


def test_the_video_phase_trains_all_but_the_mappings(parts: Path, t2v_start: Path) -> None:
    task = video_task(parts, t2v_start, phase="image_to_video", world=LARGER, image_share=0.0)
    parameters = learning(task)
    frozen = {name for name, one in task.unet.named_parameters() if f"unet.{name}" not in parameters}
    assert frozen == {
        f"{name}.{part}.weight"
        for name, _ in task.unet.named_modules()
        if name.endswith("cross_attention")
        for part in ("to_k", "to_v", "to_k_image", "to_v_image")
    }
    assert not any(name.startswith("image_projector") for name in parameters)
    assert [name for name, one in parameters.items() if one.grad is None or not one.grad.any()] == []
    assert all(one.grad is None for one in (*task.projector.parameters(), *map(task.unet.get_parameter, frozen)))


@pytest.mark.parametrize("phase", ["text_to_video", *IMAGE_PHASES])
def test_autoencoder_and_towers_stay_as_they_are(parts: Path, phase: str) -> None:
    task = video_task(parts, phase=phase)
    for module in (task.vae, task.text_encoder, task.image_encoder):
        if module is not None:
            assert not module.training
            assert not any(one.requires_grad for one in module.parameters())
    assert not {"vae", "text_encoder", "image_encoder"} & set(task.modules())


def test_aligning_teaches_the_projector_what_the_text_tower_says(parts: Path, t2v_start: Path) -> None:
    task = video_task(parts, t2v_start, phase="image_alignment", image_share=1.0, image_dropout=0.25)
    unet = {name: weight.clone() for name, weight in task.unet.state_dict().items()}
    optimizer = torch.optim.Adam(task.trainable_parameters(), lr=1e-2)
    unexplained = []
    for _ in range(150):
        loss, metrics = task.loss(task.batch(0), seeded())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        unexplained.append(float(metrics["unexplained"]))
    assert unexplained[-1] < 0.5 * unexplained[0], "a few images can be memorised"
    assert all(torch.equal(weight, unet[name]) for name, weight in task.unet.state_dict().items())
    pictures = task.batch(0)
    rows = torch.stack([task._image_context(pictures.image_tokens, torch.zeros(len(pictures), dtype=torch.bool))])
    assert float(rows.std(dim=1).mean()) > 1e-3, "different images get different tokens"


def test_the_mapping_phase_can_hold_on_to_the_captions(parts: Path, t2v_start: Path) -> None:
    plain, held = (
        video_task(parts, t2v_start, phase="image_mapping", image_share=0.0, alignment_weight=weight)
        for weight in (0.0, 0.5)
    )
    for task in (plain, held):
        torch.nn.init.ones_(task.projector.norm_out.weight)
    held.projector.load_state_dict(plain.projector.state_dict())
    without, _ = plain.loss(plain.batch(0), seeded())
    loss, metrics = held.loss(held.batch(0), seeded())
    assert float(metrics["loss_clips"]) == pytest.approx(float(without))
    assert float(metrics["unexplained"]) > 0
    assert float(loss) == pytest.approx(float(without) + 0.5 * float(metrics["unexplained"]), rel=1e-5)


@pytest.mark.parametrize(("weight", "phase"), [(-1.0, "image_mapping"), (0.1, "image_to_video")])
def test_only_the_mapping_phase_can_hold_on_to_the_captions(parts: Path, weight: float, phase: str) -> None:
    with pytest.raises(ValueError, match=rf"alignment_weight is {weight} in phase '{phase}'; it must be 0 or more"):
        video_config(parts, phase=phase, alignment_weight=weight)


def test_the_image_branch_starts_silent(parts: Path, t2v_start: Path) -> None:
    text = video_task(parts, t2v_start, image_share=0.0)
    image = video_task(parts, t2v_start, phase="image_mapping", image_share=0.0)
    noisy, timesteps = torch.randn(2, 4, 4, 2, 2), torch.tensor([30, 900])
    captions, fps = torch.randn(2, 5, 16), torch.tensor([8.0, 12.0])
    tokens = image.projector(image.batch(0).image_tokens[:2])
    with torch.no_grad():
        before = text.unet(noisy, timesteps, captions, fps)
        torch.testing.assert_close(image.unet(noisy, timesteps, captions, fps, tokens), before, atol=1e-6, rtol=1e-6)
        optimizer = torch.optim.SGD(image.trainable_parameters(), lr=1.0)
    image.loss(image.batch(0), seeded())[0].backward()
    optimizer.step()
    with torch.no_grad():
        tokens = image.projector(image.batch(0).image_tokens[:2])
        after = image.unet(noisy, timesteps, captions, fps, tokens)
    assert float((after - before).abs().max()) > 1e-3, "and then images have an effect"


@pytest.mark.parametrize("place_condition", [True, False])
def test_temporal_layers_learn_alone(parts: Path, tmp_path: Path, place_condition: bool) -> None:
    """Without the place condition, the first trainable layer gets the network's own input."""
    network = replace(NETWORK, place_condition=place_condition)
    video_task(parts, world=LARGER, network=network).save_pipeline(tmp_path)
    task = video_task(parts, tmp_path, world=LARGER, network=network, phase="temporal_only", image_share=0.0)
    assert set(task.modules()) == {"unet"}
    assert not task.unet.config["image_cross_attention"]
    learns = {name for name, parameter in task.unet.named_parameters() if parameter.requires_grad}
    assert learns == {
        name for name, _ in task.unet.named_parameters() if "temporal" in name or name.startswith(("fps_", "frame_"))
    }
    calls = calls_of(task.unet)
    loss, _ = task.loss(task.batch(0), seeded())
    assert calls[0][0].requires_grad, "torch crashes otherwise, because the first norm is trainable"
    loss.backward()
    assert all(parameter.grad is not None for parameter in task.trainable_parameters())
    assert isinstance(task.pipeline(), TextToVideoPipeline)


def test_temporal_layers_learn_nothing_from_images(parts: Path) -> None:
    with pytest.raises(ValueError, match=r"image_share is 0\.1; images do not train temporal layers: set it to 0"):
        video_config(parts, phase="temporal_only", image_share=0.1)


# Gauges, samples, pipeline


def test_validation_is_the_same_in_every_run_and_sees_the_captions(parts: Path, t2v_start: Path) -> None:
    task, other = video_task(parts, t2v_start), video_task(parts, t2v_start, seed=1, stage_index=2)
    scores = task.validate()
    assert scores == other.validate()
    gauges = {"subject", "motion", "scene", "left_right", "up_down", "diagonal", "size"}
    assert set(scores) == {"loss", *(f"gauge_{name}" for name in gauges)} == set(task.config.validation_metrics())
    assert all(scores[f"gauge_{name}"] != 0 for name in gauges)
    new = video_task(parts).validate()
    assert all(new[f"gauge_{name}"] == 0 for name in gauges), "a network that predicts zero uses no word"


def test_validation_shows_every_motion_equally_often(parts: Path, t2v_start: Path) -> None:
    repeated = replace(WORLD, motions=(*MOTIONS, "bouncing", "bouncing"))
    task, plain = (video_task(parts, t2v_start, world=world) for world in (repeated, WORLD))
    assert task.validate() == plain.validate()


def test_validation_gives_the_image_to_an_image_model(parts: Path, t2v_start: Path) -> None:
    task = video_task(parts, t2v_start, phase="image_to_video")
    for module in task.modules().values():
        fill_zeros(module)
    torch.nn.init.ones_(task.projector.norm_out.weight)
    calls = calls_of(task.unet)
    scores = task.validate()
    image = calls[0][4]
    assert image.shape[0] == len(calls[0][0])
    assert not torch.equal(image[0], image[1])
    assert scores["gauge_image"] != 0
    assert set(task.config.validation_metrics()) == set(scores)


@pytest.mark.parametrize("phase", ["text_to_video", "image_to_video"])
def test_the_saved_folder_is_the_finished_pipeline(parts: Path, t2v_start: Path, tmp_path: Path, phase: str) -> None:
    world = replace(WORLD, motions=(*MOTIONS, "bouncing"))
    noise = NoiseConfig(snr_shift=9.0)
    task = video_task(parts, t2v_start, phase=phase, guidance_scale=2.5, fps=12.0, noise=noise, world=world)
    task.save_pipeline(tmp_path)
    wanted = TextToVideoPipeline if phase == "text_to_video" else ImageToVideoPipeline
    pipeline = load_pipeline(tmp_path, expect=wanted)
    expected = task.unet.state_dict()
    for name, weight in pipeline.unet.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    defaults = pipeline.generation_defaults
    assert (defaults.num_frames, defaults.height, defaults.width, defaults.fps) == (4, 16, 16, 12.0)
    assert (defaults.guidance_scale, defaults.num_inference_steps) == (2.5, 2)
    betas = cosine_betas_shifted(1000, 9.0)
    torch.testing.assert_close(
        pipeline.scheduler.alphas_cumprod.double(), alphas_cumprod(betas).double(), atol=1e-6, rtol=1e-4
    )
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    knowledge = json.loads((tmp_path / "model_index.json").read_text())["knowledge"]
    assert knowledge["subjects"] == list(SUBJECTS)
    assert knowledge["motions"] == list(MOTIONS), "each once"
    assert knowledge["scenes"] == list(SCENES)

    pipeline.set_progress_bar_config(disable=True)
    source = SpriteWorld(WORLD)
    picture = [] if phase == "text_to_video" else [(source.render([source.script(0)])[0, 0] + 1) / 2]
    frames = pipeline(*picture, "a rocket moving left", seeds=3).frames
    assert np.asarray(frames[0]).shape == (4, 16, 16, 3)


@pytest.mark.parametrize("phase", ["text_to_video", "image_to_video"])
def test_a_sample_sheet_is_written(parts: Path, tmp_path: Path, phase: str) -> None:
    video_task(parts, phase=phase).write_samples(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]


def test_samples_show_held_out_prompts(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = video_task(parts, num_samples=3)
    labels: list[str] = []
    sheet = video_diffusion.contact_sheet
    monkeypatch.setattr(
        video_diffusion,
        "contact_sheet",
        lambda videos, said, **how: labels.extend(said) or sheet(videos, said, **how),
    )
    task.write_samples(tmp_path)
    world = SpriteWorld(replace(WORLD, split="held_out", seed=7))
    assert labels == [f"{one.caption} [{one.fps:g} fps]" for one in map(world.script, range(3))]


@pytest.mark.parametrize("phase", ["text_to_video", *IMAGE_PHASES])
def test_a_half_precision_start_is_trained_in_full_precision(
    parts: Path, t2v_start: Path, tmp_path: Path, phase: str
) -> None:
    """The shipped models are stored in half precision."""
    image = video_task(parts, t2v_start, phase="image_mapping")
    for module in (image.vae, image.text_encoder, image.image_encoder, image.unet, image.projector):
        module.to(torch.float16)
    image.save_pipeline(tmp_path)
    task = video_task(tmp_path, tmp_path, phase=phase)
    networks = (task.vae, task.text_encoder, task.unet, task.image_encoder, task.projector)
    assert {one.dtype for one in networks if one is not None} == {torch.float32}
    assert torch.isfinite(task.loss(task.batch(0), seeded())[0])


def test_the_papers_schedule_can_be_chosen(parts: Path) -> None:
    task = video_task(parts, noise=NoiseConfig(schedule="linear", prediction_type="epsilon"))
    torch.testing.assert_close(task.alphas_cumprod, alphas_cumprod(linear_betas()))


def test_a_larger_world_than_the_network_takes_is_refused_before_the_first_step(parts: Path) -> None:
    config = video_config(parts, world=replace(WORLD, height=24))
    with pytest.raises(ValueError, match=r"24 pixels high and 16 wide.*multiples of 16"):
        build(config)
    with pytest.raises(ValueError, match=r"context_dim is 24; set it to 16"):
        build(video_config(parts, network=replace(NETWORK, context_dim=24)))
