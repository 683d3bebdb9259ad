from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from tests.tiny_clips import (
    CPU,
    SIZE,
    SPRITE_IMAGES,
    SPRITES,
    SampleConfig,
    clip_config,
    clip_data,
    clip_task,
    write_clips,
    write_pictures,
)
from tests.tiny_loras import merge
from videocrafter.checkpoints.lora.lora_file import read_lora
from videocrafter.data.errors import SourceError, TooManyBadSamplesError
from videocrafter.data.sample import VideoBatch
from videocrafter.diffusion.schedule import alphas_cumprod, linear_betas, signal_scale
from videocrafter.media.video_file import probe, read_frames
from videocrafter.models.autoencoder import Posterior
from videocrafter.models.image_encoder import encode_image
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.presets import PRESETS
from videocrafter.training.saving.state import trained_parameters
from videocrafter.training.video.clip_encoding import EncodedClips
from videocrafter.training.video.fixed_clips import ValidationConfig
from videocrafter.training.video.lora import LoraTraining
from videocrafter.training.video.task import ClipDiffusionTask

IMAGE_PHASES = ("image_mapping", "image_to_video")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips_batch(count: int = 3, num_frames: int = 4, side: int = SIZE) -> VideoBatch:
    words = ("a rocket moving left", "a cat at night", "a red car", "a soccer ball moving right")
    return VideoBatch(
        pixels=torch.rand(count, num_frames, 3, side, side, generator=seeded(7)) * 2 - 1,
        captions=tuple(words[index % 4] for index in range(count)),
        fps=torch.linspace(4.0, 24.0, count),
        keys=tuple(f"clip {index}" for index in range(count)),
    )


def with_exact_latents(task: ClipDiffusionTask) -> None:
    """Set the posterior's standard deviation to zero, so that latents are not random."""
    encode = task.encoder.encode

    def encode_exactly(batch: VideoBatch) -> EncodedClips:
        clips = encode(batch)
        return replace(clips, latents=Posterior(mean=clips.latents.mean, std=torch.zeros_like(clips.latents.std)))

    task.encoder.encode = encode_exactly  # type: ignore[method-assign]


def with_paper_schedule(folder: Path, start: Path) -> Path:
    """A copy of a start with the paper's schedule and epsilon prediction."""
    pipeline = load_pipeline(start)
    pipeline.scheduler = DDIMScheduler(
        trained_betas=linear_betas().tolist(), prediction_type="epsilon", clip_sample=False
    )
    pipeline.save_pretrained(folder)
    return folder


class KnownAnswer(nn.Module):
    """Replaces the network: records its inputs and always returns the same output."""

    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Any, ...]] = []

    def forward(self, noisy: Tensor, *conditions: Any) -> Tensor:
        self.asked.append((noisy, *conditions))
        return torch.linspace(-1, 1, noisy.numel(), requires_grad=True).reshape(noisy.shape)


# The objective


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "signal_scale"])
def test_the_loss_is_the_papers(tiny_t2v: Path, tmp_path: Path, kind: str) -> None:
    """The noise is recovered from the network's input by the paper's formula, and the loss computed from it."""
    start = tiny_t2v if kind == "v_prediction" else with_paper_schedule(tmp_path, tiny_t2v)
    task = clip_task(start, signal_scale=0.3 if kind == "signal_scale" else None)
    with_exact_latents(task)
    task.unet = KnownAnswer()  # type: ignore[assignment]
    batch = clips_batch(8, side=2 * SIZE)
    latents = task.encoder.encode(batch).latents.mean.double()
    loss, metrics = task.loss(batch, seeded())

    (noisy, timesteps, text, fps, image), *more = task.unet.asked
    assert more == []
    paper = load_pipeline(tiny_t2v).scheduler.alphas_cumprod.double()
    if kind != "v_prediction":
        paper = alphas_cumprod(linear_betas())
    scale = signal_scale(0.3) if kind == "signal_scale" else torch.ones(1000)
    signal = (paper.sqrt() * scale.double())[timesteps].reshape(-1, 1, 1, 1, 1)
    sigma = (1 - paper).sqrt()[timesteps].reshape(-1, 1, 1, 1, 1)
    noise = (noisy.double() - signal * latents) / sigma
    assert float(noise.mean()) == pytest.approx(0, abs=0.1)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    wanted = signal * noise - sigma * latents if kind == "v_prediction" else noise
    answer = torch.linspace(-1, 1, noisy.numel()).reshape(noisy.shape)
    assert float(loss.detach()) == pytest.approx(float((answer - wanted).square().mean()), rel=1e-3)
    assert {name: float(value) for name, value in metrics.items()} == {"loss_clips": float(loss.detach())}

    assert timesteps.dtype == torch.long
    assert [int(level) // 125 for level in timesteps.sort().values] == list(range(8)), "all noise levels"
    torch.testing.assert_close(text, task.pipeline.encode_prompts(batch.captions))
    assert fps.tolist() == batch.fps.tolist()
    assert image is None


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "signal_scale"])
def test_min_snr_weights_the_training_loss_and_no_validation(tiny_t2v: Path, tmp_path: Path, kind: str) -> None:
    start = tiny_t2v if kind == "v_prediction" else with_paper_schedule(tmp_path, tiny_t2v)
    scale = 0.3 if kind == "signal_scale" else None
    plain, weighted = (clip_task(start, signal_scale=scale, min_snr_gamma=gamma) for gamma in (None, 0.4))
    losses, validations = [], []
    for task in (plain, weighted):
        task.unet = KnownAnswer()  # type: ignore[assignment]
        losses.append(float(task.loss(clips_batch(8), seeded())[0].detach()))
        timesteps = task.unet.asked[0][1]
        validations.append(task.validate())
    assert validations[0] == validations[1]
    # The squared error of each sample, from the same draws, weighted by hand.
    abar = plain.alphas_cumprod[timesteps].double()
    snr = abar / (1 - abar)
    weights = snr.clamp(max=0.4) / (snr + 1 if kind == "v_prediction" else snr)
    errors = []
    losses_of = plain._losses

    def record(*given: Any) -> Tensor:
        errors.append(losses_of(*given).detach())
        return errors[-1]

    plain._losses = record  # type: ignore[method-assign]
    plain.loss(clips_batch(8), seeded())
    assert losses[0] == pytest.approx(float(errors[0].mean()))
    assert losses[1] == pytest.approx(float((errors[0].double() * weights).mean()), rel=1e-5)
    assert losses[1] < losses[0]


def test_latents_are_drawn_from_what_the_autoencoder_says(tiny_t2v: Path) -> None:
    spread = []
    for exact in (True, False):
        task = clip_task(tiny_t2v)
        if exact:
            with_exact_latents(task)
        task.unet = KnownAnswer()  # type: ignore[assignment]
        task.loss(clips_batch(), seeded())
        spread.append(task.unet.asked[0][0])
    assert not torch.equal(*spread)


def test_the_loss_draws_from_its_generator_alone(tiny_i2v: Path) -> None:
    task = clip_task(tiny_i2v, phase="image_to_video", text_dropout=0.2, image_dropout=0.2, both_dropout=0.2)
    losses = []
    for seed, global_seed in ((0, 0), (0, 1), (1, 0)):
        torch.manual_seed(global_seed)
        losses.append(float(task.loss(clips_batch(), seeded(seed))[0].detach()))
    assert losses[0] == losses[1] != losses[2]


def test_offset_noise_shifts_whole_channels(tiny_t2v: Path) -> None:
    def noise_of(strength: float) -> Tensor:
        task = clip_task(tiny_t2v, offset_noise=strength)
        with_exact_latents(task)
        task.unet = KnownAnswer()  # type: ignore[assignment]
        batch = clips_batch(16, side=2 * SIZE)
        task.loss(batch, seeded())
        noisy, timesteps = task.unet.asked[0][:2]
        level = task.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1, 1)
        return (noisy - level.sqrt() * task.encoder.encode(batch).latents.mean) / (1 - level).sqrt()

    assert float(noise_of(0.0).mean(dim=(2, 3, 4)).std()) == pytest.approx(1 / 8, rel=0.3)  # of 64 numbers
    assert float(noise_of(2.0).mean(dim=(2, 3, 4)).std()) == pytest.approx(2, rel=0.3)


def test_a_power_trains_little_noise_more_often(tiny_t2v: Path) -> None:
    task = clip_task(tiny_t2v, timestep_power=3.0)
    task.unet = KnownAnswer()  # type: ignore[assignment]
    task.loss(clips_batch(8), seeded())
    assert int((task.unet.asked[0][1] < 125).sum()) == 4


# Conditions


@pytest.mark.parametrize(
    ("dropout", "text", "image"),
    [({}, False, False), ({"text_dropout": 1.0}, True, False), ({"image_dropout": 1.0}, False, True)]
    + [({"both_dropout": 1.0}, True, True)],
)
def test_what_is_dropped_is_replaced_by_the_null_condition(
    tiny_i2v: Path, dropout: dict[str, float], text: bool, image: bool
) -> None:
    task = clip_task(tiny_i2v, phase="image_to_video", condition_frame="first", **dropout)
    task.unet = KnownAnswer()  # type: ignore[assignment]
    batch = clips_batch()
    task.loss(batch, seeded())
    _, _, seen_text, fps, seen_image = task.unet.asked[0]
    pipeline = load_pipeline(tiny_i2v)
    torch.testing.assert_close(seen_text, pipeline.encode_prompts(["", "", ""] if text else batch.captions))
    picture = torch.zeros(3, 3, SIZE, SIZE) if image else batch.pixels[:, 0]
    wanted = pipeline.image_projector(encode_image(pipeline.image_encoder, picture))
    torch.testing.assert_close(seen_image, wanted)
    assert fps.tolist() == batch.fps.tolist(), "fps is never dropped"


def test_a_share_of_the_conditions_is_dropped(tiny_i2v: Path) -> None:
    task = clip_task(tiny_i2v, phase="image_to_video", text_dropout=0.2, image_dropout=0.3, both_dropout=0.1)
    task.unet = KnownAnswer()  # type: ignore[assignment]
    batch, empty = clips_batch(8), task.encoder.null_text()[0]
    nothing = task.projector(task.encoder.null_image())[0]
    dropped = []
    for seed in range(40):
        task.loss(batch, seeded(seed))
        _, _, text, _, image = task.unet.asked[-1]
        dropped += [
            (torch.equal(a, empty), bool(torch.allclose(b, nothing, atol=1e-5)))
            for a, b in zip(text, image, strict=True)
        ]
    shares = {pair: dropped.count(pair) / len(dropped) for pair in set(dropped)}
    assert shares == {
        (True, False): pytest.approx(0.2, abs=0.06),
        (False, True): pytest.approx(0.3, abs=0.06),
        (True, True): pytest.approx(0.1, abs=0.05),
        (False, False): pytest.approx(0.4, abs=0.08),
    }


@pytest.mark.parametrize("condition_frame", ["first", "random"])
def test_the_condition_frame_is_as_told(tiny_i2v: Path, condition_frame: str) -> None:
    task = clip_task(tiny_i2v, phase="image_to_video", condition_frame=condition_frame)
    batch = clips_batch(8)
    tokens = task.encoder.encode(batch).image_tokens
    first = encode_image(task.pipeline.image_encoder, batch.pixels[:, 0])
    assert bool(torch.allclose(tokens, first, atol=1e-5)) == (condition_frame == "first")


# Images


def test_images_train_no_temporal_layer(tiny_t2v: Path) -> None:
    task = clip_task(tiny_t2v)
    loss, metrics = task.loss(clips_batch(num_frames=1), seeded())
    assert set(metrics) == {"loss_images"}
    loss.backward()
    for name, parameter in task.unet.named_parameters():
        is_temporal = any(part in ("temporal", "temporal_in", "frame_text_embedding") for part in name.split("."))
        assert (parameter.grad is None) == is_temporal, name


def test_a_batch_is_of_images_or_of_clips_and_counts_them(tiny_t2v: Path, tmp_path: Path) -> None:
    data = {"batch_size": 2, "image_batch_size": 3, "image_share": 0.4}
    task = clip_task(tiny_t2v, SPRITES, SPRITE_IMAGES, data=data, report=tmp_path)
    batches = [task.batch(step, 0) for step in range(40)]
    sizes = {(batch.num_frames, len(batch)) for batch in batches}
    assert sizes == {(4, 2), (1, 3)}
    assert 8 <= sum(batch.num_frames == 1 for batch in batches) <= 24
    assert [task.num_samples(batch) for batch in batches] == [len(batch.keys) for batch in batches]
    assert task.names(batches[0]) == list(batches[0].keys)
    task.close_data()


# Trainable parameters


def is_temporal(name: str) -> bool:
    return any(
        part in ("temporal", "temporal_in", "fps_embedding", "frame_text_embedding") for part in name.split(".")
    )


def is_mapping(name: str) -> bool:
    return "cross_attention.to_k" in name or "cross_attention.to_v" in name


LEARNS: dict[str, Callable[[str], bool]] = {
    "text_to_video": lambda name: name.startswith("unet."),
    "temporal_only": lambda name: name.startswith("unet.") and is_temporal(name),
    "image_mapping": lambda name: name.startswith("image_projector.") or "_image." in name,
    "image_to_video": lambda name: name.startswith("unet.") and not is_mapping(name),
    "lora": lambda name: ".lora_" in name,
}


def all_weights(task: ClipDiffusionTask) -> dict[str, Tensor]:
    networks = {**task.encoder.networks(), **task.modules()}
    return {
        f"{part}.{name}": value.clone()
        for part, network in networks.items()
        for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize("phase", LEARNS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_after_two_steps_what_learns_has_changed_and_nothing_else(
    tiny_t2v: Path, tiny_i2v: Path, phase: str, checkpointing: bool
) -> None:
    start = tiny_i2v if phase in IMAGE_PHASES else tiny_t2v
    what: dict[str, Any] = {"lora": LoraTraining(rank=2)} if phase == "lora" else {"phase": phase}
    task = clip_task(start, gradient_checkpointing=checkpointing, **what)
    parameters = trained_parameters(task)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2)
    before = all_weights(task)
    for module in task.modules().values():
        module.train()
    for seed in range(2):
        task.loss(clips_batch(), seeded(seed))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    after = all_weights(task)
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == set(parameters) == {name for name in before if LEARNS[phase](name)}


@pytest.mark.parametrize("phase", ["text_to_video", "lora"])
def test_gradient_checkpointing_changes_no_gradient(tiny_t2v: Path, phase: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        lora = LoraTraining(rank=2) if phase == "lora" else None
        task = clip_task(tiny_t2v, lora=lora, gradient_checkpointing=checkpointing)
        task.unet.eval()
        task.loss(clips_batch(), seeded())[0].backward()
        gradients.append({name: one.grad.clone() for name, one in trained_parameters(task).items()})
    assert any(gradient.any() for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_validation_does_not_depend_on_where_the_clips_lie(tiny_t2v: Path, tmp_path: Path) -> None:
    found = []
    for place in ("here", "there"):
        folder = write_clips(tmp_path / place, 2)
        validation = ValidationConfig(num_clips=2, timesteps=(500,))
        task = clip_task(tiny_t2v, f"folder:{folder}", validation=validation, report=tmp_path)
        found.append(task.validate())
        task.close_data()
    assert found[0] == found[1]


def test_captions_that_are_too_long_are_reported_at_the_end(tiny_t2v: Path, tmp_path: Path, caplog: Any) -> None:
    folder = write_clips(tmp_path / "clips", 1)
    caption = "cat " * 12 + "moving right"
    next(folder.glob("*.txt")).write_text(caption, encoding="utf-8")
    task = clip_task(tiny_t2v, f"folder:{folder}", data={"batch_size": 1}, report=tmp_path)
    caplog.set_level("INFO", "videocrafter")
    task.encoder.encode(task.batch(0, 0))
    assert "longer than" not in caplog.text
    task.close_data()
    assert "Note: 1 of 1 encoded captions are longer than" in caplog.text
    assert "moving right'" in caplog.text


def test_overfitting_one_clip_lowers_its_loss_far(tiny_t2v: Path, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 1, size=2 * SIZE)
    validation = ValidationConfig(num_clips=1, timesteps=(200, 500, 800))
    cutting = replace(clip_config().data.cutting, height=2 * SIZE, width=2 * SIZE)
    data = {"batch_size": 1, "cutting": cutting}
    task = clip_task(tiny_t2v, f"folder:{folder}", data=data, validation=validation, report=tmp_path)
    optimizer = torch.optim.AdamW(task.trainable_parameters(), lr=3e-3)
    before = task.validate()
    for step in range(40):
        task.loss(task.batch(step, 0), seeded(step))[0].backward()
        nn.utils.clip_grad_norm_(task.trainable_parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    after = task.validate()
    task.close_data()
    assert after["loss_t200"] < 0.75 * before["loss_t200"]
    assert after["loss_t500"] < 0.5 * before["loss_t500"]
    assert after["loss_t800"] < 0.25 * before["loss_t800"], "at high noise, memorising the clip is enough"


# Frozen networks, starts


@pytest.mark.parametrize("name", ["tiny-t2v", "tiny-i2v"])
def test_a_model_of_the_package_is_a_start(tmp_path: Path, name: str) -> None:
    """It is stored in half precision and trained in float32; its frozen parts are copied unchanged."""
    preset = PRESETS[name]
    assert preset.folder is not None
    phase = "image_to_video" if preset.task == "i2v" else "text_to_video"
    side = 32  # the networks for 128 pixels take multiples of it
    cutting = replace(clip_data().cutting, height=side, width=side)
    task = clip_task(preset.folder, phase=phase, data={"cutting": cutting})
    assert {parameter.dtype for parameter in task.unet.parameters()} == {torch.float32}
    loss, _ = task.loss(clips_batch(1, side=side), seeded())
    assert torch.isfinite(loss)
    task.save_pipeline(tmp_path)
    load_pipeline(tmp_path)
    for part, source in task._inputs.frozen.folders.items():
        for path in source.iterdir():
            assert (tmp_path / part / path.name).read_bytes() == path.read_bytes(), path
    defaults = json.loads((tmp_path / "model_index.json").read_text())["defaults"]
    assert (defaults["num_frames"], defaults["height"], defaults["width"]) == (4, side, side)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("lora", [None, LoraTraining(rank=2)])
def test_frozen_networks_run_in_their_own_precision(
    tiny_t2v: Path, tiny_i2v: Path, image: bool, lora: LoraTraining | None
) -> None:
    """With a LoRA only the network is rounded; the projector reads unrounded tokens."""
    start = tiny_i2v if image else tiny_t2v
    exact = load_pipeline(start)
    task = clip_task(start, lora=lora, frozen_weights="fp32", base_weights="bf16")
    for name, network in task.encoder.networks().items():
        expected = getattr(exact, name).state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(value, expected[key]), (name, key)
    assert task.unet.conv_in.weight.dtype == (torch.float32 if lora is None else torch.bfloat16)
    if task.projector is not None:
        assert {parameter.dtype for parameter in task.projector.parameters()} == {torch.float32}
    loss, _ = task.loss(clips_batch(), seeded())
    loss.backward()
    assert {one.grad.dtype for one in task.trainable_parameters() if one.grad is not None} == {torch.float32}
    rounded = clip_task(start, lora=lora, frozen_weights="bf16", base_weights="bf16")
    assert {p.dtype for network in rounded.encoder.networks().values() for p in network.parameters()} == {
        torch.bfloat16
    }
    assert float(rounded.loss(clips_batch(), seeded())[0].detach()) == pytest.approx(float(loss.detach()), rel=0.05)


# LoRA


def test_a_trained_lora_equals_the_merged_network(tiny_t2v: Path, tmp_path: Path) -> None:
    task = clip_task(tiny_t2v, lora=LoraTraining(rank=2, alpha=3.0, layers="all"))
    optimizer = torch.optim.AdamW(task.trainable_parameters(), lr=0.05)
    for seed in range(2):
        task.loss(clips_batch(), seeded(seed))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    task.save_pipeline(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]

    base, adapted, merged = (load_pipeline(tiny_t2v) for _ in range(3))
    loaded = adapted.load_lora_weights(tmp_path)
    assert loaded.note is None
    assert loaded.num_layers["unet"] == sum(".lora_A." in name for name in task.unet.state_dict())
    merge(merged.unet, {name.removeprefix("unet."): layer for name, layer in read_lora(tmp_path).layers.items()})
    given = torch.randn(1, 4, 4, 4, 4), torch.tensor([400]), torch.randn(1, 12, 16), torch.tensor([8.0])
    with torch.no_grad():
        wanted = task.unet.eval()(*given)
        torch.testing.assert_close(adapted.unet(*given), wanted, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(merged.unet(*given), wanted, atol=1e-5, rtol=1e-4)
        assert float((base.unet(*given) - wanted).abs().max()) > 0.01


# Validation and samples


def test_validation_is_always_the_same(tiny_t2v: Path, tmp_path: Path) -> None:
    task = clip_task(tiny_t2v, text_dropout=0.5, report=tmp_path)
    scores = task.validate()
    assert set(scores) == {"loss", "loss_t100", "loss_t600"} == set(task.config.validation_metrics())
    assert scores["loss"] == pytest.approx((scores["loss_t100"] + scores["loss_t600"]) / 2)
    for step in range(3):
        task.loss(task.batch(step, 0), seeded(step))
    torch.manual_seed(17)
    assert task.validate() == scores, "independent of the training in between"
    other = clip_task(tiny_t2v, seed=5, stage_index=2, timestep_power=2.0, data={"batch_size": 3, "seed": 4})
    assert other.validate() == scores, "in every run"
    with torch.no_grad():
        task.unet.conv_out.bias.add_(0.5)
    assert task.validate() != scores, "but not with other weights"
    task.close_data()


def test_validation_measures_the_loss_at_its_noise_levels(tiny_t2v: Path, tmp_path: Path) -> None:
    start = with_paper_schedule(tmp_path, tiny_t2v)
    task = clip_task(start, validation=ValidationConfig(num_clips=3, timesteps=(10, 990)))
    task.unet = KnownAnswer()  # type: ignore[assignment]
    scores = task.validate()
    levels = [int(asked[1]) for asked in task.unet.asked]
    assert sorted(levels) == [10] * 3 + [990] * 3
    clips = task._validation_clips()
    errors: dict[int, list[float]] = {10: [], 990: []}
    for index, (noisy, timestep, text, fps, _) in enumerate(task.unet.asked):
        clip, level = clips[index // 2], alphas_cumprod(linear_betas())[timestep].reshape(-1, 1, 1, 1, 1)
        noise = (noisy - level.sqrt() * clip.latents.mean) / (1 - level).sqrt()
        answer = torch.linspace(-1, 1, noisy.numel()).reshape(noisy.shape)
        errors[int(timestep)].append(float((answer - noise).square().mean()))
        torch.testing.assert_close(text, clip.text)
        assert torch.equal(fps, clip.fps)
    for level in errors:
        assert scores[f"loss_t{level:03d}"] == pytest.approx(sum(errors[level]) / 3, rel=1e-3)


def test_validation_gives_the_image_to_an_image_model(tiny_i2v: Path) -> None:
    task = clip_task(tiny_i2v, phase="image_to_video", image_dropout=1.0)
    task.unet = KnownAnswer()  # type: ignore[assignment]
    task.validate()
    images = [asked[4] for asked in task.unet.asked]
    nothing = task.projector(task.encoder.null_image())
    assert not torch.allclose(images[0], images[2])
    assert not any(torch.allclose(image, nothing, atol=1e-3) for image in images)


@pytest.mark.parametrize("image", [False, True])
def test_samples_are_written(tiny_t2v: Path, tiny_i2v: Path, tmp_path: Path, image: bool) -> None:
    clips = write_clips(tmp_path / "clips", 3, fps=6.0)
    data = {"cutting": clip_config().data.cutting}
    sampling = replace(data["cutting"].sampling, fps_range=None)
    data["cutting"] = replace(data["cutting"], sampling=sampling)
    task = clip_task(tiny_i2v if image else tiny_t2v, f"folder:{clips}", data=data, phase="text_to_video")
    for module in task.modules().values():
        module.eval()
    names = ["sample-00.mp4", "sample-01.mp4", "samples.png"]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        torch.manual_seed(len(folder))
        task.write_samples(tmp_path / folder)
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
    # The sheet is lossless. H.264 is not, and its encoder is not deterministic.
    sheets = [(tmp_path / folder / "samples.png").read_bytes() for folder in ("one", "two")]
    assert sheets[0] == sheets[1], "always the same"
    assert len(read_frames(tmp_path / "one/sample-00.mp4")) == 4
    assert probe(tmp_path / "one/sample-00.mp4").fps == 6.0, "at the fps of the clip whose caption it uses"


def test_samples_of_ones_own_prompts(tiny_i2v: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = SampleConfig(prompts=("a cat", "a rocket", "a red car"), num_inference_steps=1, guidance_scale=1.0)
    task = clip_task(tiny_i2v, phase="image_to_video", samples=samples)
    asked: list[tuple[str, dict[str, Any]]] = []
    check = type(task.pipeline).check_inputs

    def listen(self: Any, prompt: str, *rest: Any, **settings: Any) -> Any:
        asked.append((prompt, settings))
        return check(self, prompt, *rest, **settings)

    monkeypatch.setattr(type(task.pipeline), "check_inputs", listen)
    task.write_samples(tmp_path)
    assert [prompt for prompt, _ in asked] == ["a cat", "a rocket", "a red car"]
    assert [settings["seeds"] for _, settings in asked] == [0, 1, 2]
    for _, settings in asked:
        assert {name: settings[name] for name in ("num_inference_steps", "guidance_scale", "fps", "num_frames")} == {
            "num_inference_steps": 1,
            "guidance_scale": 1.0,
            "fps": 8.0,
            "num_frames": 4,
        }


# Data


def keys_of(task: ClipDiffusionTask, count: int) -> list[str]:
    return [key for step in range(count) for key in task.batch(step, 0).keys]


def test_the_order_follows_from_seed_and_stage(tiny_t2v: Path, tmp_path: Path) -> None:
    orders = []
    for seed, stage_index, data_seed in ((0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        task = clip_task(tiny_t2v, seed=seed, stage_index=stage_index, data={"seed": data_seed}, report=tmp_path)
        orders.append(keys_of(task, 4))
        task.close_data()
    assert orders[0] == orders[1]
    assert len(set(map(tuple, orders))) == 4


def test_what_is_left_out_is_named_once_in_the_runs_folder(tiny_t2v: Path, tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", 4)
    (clips / "2.mp4").write_bytes(b"no video")
    for _ in range(2):  # the second time as a resumed run
        task = clip_task(tiny_t2v, f"folder:{clips}", data={"batch_size": 3}, report=tmp_path / "run")
        assert "2.mp4" not in " ".join(keys_of(task, 1))
        task.batch(1, 0)
        task.close_data()
    (line,) = (tmp_path / "run/left_out.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "2.mp4"


def test_of_several_clips_one_is_learned_measured_and_named(
    tiny_t2v: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [f"folder:{write_clips(tmp_path / name, 3)}" for name in ("b", "a")]
    data = {"batch_size": 1, "one_clip": True}
    with caplog.at_level(logging.INFO):
        task = clip_task(tiny_t2v, *folders, data=data, validation=ValidationConfig(num_clips=4), report=tmp_path)
    wanted = f"{folders[0]}/0.mp4"
    assert set(keys_of(task, 5)) == {wanted}
    assert [key for clips in task._validation_clips() for key in clips.keys] == [wanted]
    assert [record.message for record in caplog.records if "one clip" in record.message] == [
        f"Training on one clip, the first: {wanted}"
    ]
    task.close_data()


def test_one_clip_is_measured_on_others_where_they_are_named(tiny_t2v: Path, tmp_path: Path) -> None:
    first, other = (f"folder:{write_clips(tmp_path / name, 3)}" for name in ("b", "a"))
    validation = ValidationConfig(num_clips=2, sources=(other,))
    task = clip_task(tiny_t2v, first, data={"batch_size": 1, "one_clip": True}, validation=validation)
    assert [key for clips in task._validation_clips() for key in clips.keys] == [f"{other}/0.mp4", f"{other}/1.mp4"]


def test_too_many_bad_samples_end_training(tiny_t2v: Path, tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", 4)
    for path in clips.glob("*.mp4"):
        path.write_bytes(b"no video")
    task = clip_task(tiny_t2v, f"folder:{clips}", report=tmp_path)
    with pytest.raises(TooManyBadSamplesError, match=rf"all are listed in {tmp_path / 'left_out.jsonl'}"):
        task.batch(0, 0)
    task.close_data()


@pytest.mark.parametrize(
    ("sources", "share", "said"),
    [
        ((SPRITES,), 0.125, r"all sources contain videos.*\(--set 'stages\.\*\.task\.data\.image_share=none'\)"),
        ((SPRITE_IMAGES,), 0.125, r"all sources contain images.*image_share=none'\)"),
        ((SPRITES, SPRITE_IMAGES), None, r"image_share is not set.*image_share=0\.125'\)"),
        ((SPRITES, SPRITE_IMAGES), 0.0, r"image sources would never be used.*image_share=0\.125'\)"),
    ],
)
def test_an_image_share_that_does_not_fit_says_what_to_type(
    tiny_t2v: Path, tmp_path: Path, sources: tuple[str, ...], share: float | None, said: str
) -> None:
    task = clip_task(tiny_t2v, *sources, data={"image_share": share})
    with pytest.raises(ValueError, match=said):
        task.open_data(0, 1, tmp_path)


@pytest.mark.parametrize("what", [{"phase": "temporal_only"}, {"lora": LoraTraining(layers="temporal")}])
@pytest.mark.parametrize("sources", [(SPRITE_IMAGES,), (SPRITES, SPRITE_IMAGES)])
def test_temporal_layers_learn_nothing_from_images(
    tiny_t2v: Path, tmp_path: Path, what: dict[str, Any], sources: tuple[str, ...]
) -> None:
    task = clip_task(tiny_t2v, *sources, data={"image_share": 0.5 if len(sources) == 2 else None}, **what)
    with pytest.raises(ValueError, match="temporal layers are trained, which do not run on images"):
        task.open_data(0, 1, tmp_path)


def test_sources_of_validation_are_looked_at_before_the_first_step(tiny_t2v: Path, tmp_path: Path) -> None:
    validation = ValidationConfig(sources=(str(tmp_path / "nowhere"),))
    task = clip_task(tiny_t2v, validation=validation)
    with pytest.raises(SourceError, match="nowhere"):
        task.open_data(0, 1, tmp_path)
    task.close_data()
    other = clip_task(tiny_t2v, validation=validation)
    other.open_data(1, 2, tmp_path)  # only the main process validates
    other.close_data()


def test_a_table_without_the_columns_that_it_needs(tiny_t2v: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("videoid,page_dir\n1,a\n")
    task = clip_task(tiny_t2v, f"webvid:{tmp_path / 'train.csv'}?root={tmp_path}")
    with pytest.raises(SourceError, match=r"train\.csv.*'name'"):
        task.open_data(0, 1, tmp_path)


def test_data_are_opened_before_they_are_read(tiny_t2v: Path) -> None:
    task = clip_task(tiny_t2v)
    with pytest.raises(RuntimeError, match="call open_data first"):
        task.batch(0)
    task.close_data()


# Errors that are found before the first step


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"phase": "image_alignment"}, "'image_alignment' is the miniature's"),
        ({"phase": "temporal"}, "phase is 'temporal', expected one of images, text_to_video, temporal_only"),
        ({"condition_frame": "last"}, "condition_frame is 'last', expected one of first, random"),
        ({"frozen_weights": "fp16"}, "frozen_weights is 'fp16', expected one of auto, fp32, bf16"),
        ({"base_weights": "int8"}, "base_weights is 'int8', expected one of auto, fp32, bf16"),
        ({"image_queries": 0}, "image_queries is 0; it must be 1 or more"),
        ({"encoded_frames": 0}, "encoded_frames is 0; it must be 1 or more"),
        ({"timestep_power": 0.0}, "timestep_power is 0.0; it must be above 0"),
        ({"image_tokens": "all"}, "image_tokens is 'all'; expected patches or global"),
        ({"min_snr_gamma": 0.0}, "min_snr_gamma is 0.0; it must be above 0, or none"),
        ({"text_dropout": 0.6, "both_dropout": 0.5}, "expected shares that add up to 1 or less"),
        ({"image_dropout": -0.1}, "expected shares"),
        ({"offset_noise": -1.0}, "offset_noise is -1.0; it must be 0 or more"),
        ({"signal_scale": 1.5}, "signal_scale is 1.5; expected a number above 0, 1 at most, or none"),
        ({"signal_scale": 0.0}, "signal_scale is 0.0"),
        ({"lora": LoraTraining(), "phase": "temporal_only"}, "phase is 'temporal_only' with a LoRA"),
        ({"data": {"epochs": 2}}, "data.epochs is 2; num_steps sets the training length"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        clip_config(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": 0}, "samples.count is 0; it must be 1 or more"),
        ({"num_inference_steps": 0}, "samples.num_inference_steps is 0; expected 1 to 1000, or none"),
        ({"num_inference_steps": 1001}, "samples.num_inference_steps is 1001"),
        ({"guidance_scale": -1.0}, "samples.guidance_scale is -1.0; it must be 0 or more"),
    ],
)
def test_samples_that_could_not_be_made(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SampleConfig(**wrong)


def test_a_size_that_does_not_fit_is_refused_when_the_task_is_built(tiny_t2v: Path) -> None:
    cutting = replace(clip_config().data.cutting, height=20)
    with pytest.raises(ValueError, match=r"gives samples of 16x20 pixels; this model takes multiples of 8"):
        clip_task(tiny_t2v, data={"cutting": cutting})
    shapes = replace(clip_config().data.cutting, max_aspect=2.0, size_step=4)
    with pytest.raises(ValueError, match=r"multiples of 8: set height and width, or size_step, to them"):
        clip_task(tiny_t2v, data={"cutting": shapes})


def test_a_start_and_sources_are_needed(tiny_t2v: Path) -> None:
    with pytest.raises(ValueError, match="none was named; give --init FOLDER"):
        ClipDiffusionTask.build(clip_config(), None, 0, 0, CPU)
    config = clip_config()
    without = replace(config, data=replace(config.data, sources=()))
    with pytest.raises(ValueError, match=r"task\.data\.sources is empty; name your clips with --data"):
        ClipDiffusionTask.build(without, tiny_t2v, 0, 0, CPU)


def test_the_image_phases_need_an_image_branch(tiny_t2v: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set task\.image_tower"):
        clip_task(tiny_t2v, phase="image_mapping")
    with pytest.raises(ValueError, match=r"'image_tower'|image_tower is"):
        clip_task(tiny_t2v, phase="image_mapping", image_tower=str(tmp_path))
    with pytest.raises(ValueError, match="train phase 'image_mapping' first"):
        clip_task(tiny_t2v, phase="image_to_video", image_tower=str(PRESETS["tiny-i2v"].folder))


def test_pictures_in_a_folder_are_trained_on(tiny_t2v: Path, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2)
    task = clip_task(tiny_t2v, f"folder:{pictures}", report=tmp_path)
    loss, metrics = task.loss(task.batch(0, 0), seeded())
    assert torch.isfinite(loss)
    assert "loss_images" in metrics
    task.close_data()
