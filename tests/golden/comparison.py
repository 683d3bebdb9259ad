"""Compare every stored output of the official code with the output of our networks and sampler for the same inputs.

No output of the official code is used as an input: the denoiser gets the text tokens of our text encoder, and the
decoder gets our latents.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.golden.official_numbers import OfficialNumbers
from tests.golden.rebuilt_model import RebuiltModel, rebuild
from videocrafter.checkpoints.official.official_model import official_model_from_config
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.diffusion.objective import add_noise
from videocrafter.diffusion.sampling_steps import SamplingSteps
from videocrafter.diffusion.schedule import (
    ChangeOfVariables,
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.models.autoencoder import decode_video, encode_video
from videocrafter.models.clip_tokenizer import clip_tokenizer
from videocrafter.models.image_encoder import encode_image, null_image, preprocess
from videocrafter.models.text_encoder import tokenize
from videocrafter.pipelines.denoising import Conditions, denoise
from videocrafter.pipelines.sampling_settings import SamplingSettings

LIMIT = 1e-4
"""Largest accepted error, in units of the standard deviation of the official output (float32)."""

_INPUTS = ("text.tokens", "text.null_tokens", "image.pixels")
_INPUT_ENDINGS = (".timestep", ".fps")


def compare(numbers: OfficialNumbers) -> dict[str, float]:
    """Return the error of every stored output. Raises ValueError if an output has no counterpart."""
    official = numbers.state_dict()
    model = rebuild(official_model_from_config(numbers.config, numbers.shapes), official)
    with torch.no_grad():
        errors = {
            name: relative_error(got, numbers.expected[name])
            for name, got in outputs(numbers, model)
            if name in numbers.expected
        }
    outputs_stored = {name for name in numbers.expected if name not in _INPUTS and not name.endswith(_INPUT_ENDINGS)}
    if left := sorted(outputs_stored - errors.keys()):
        raise ValueError(f"{numbers.variant} stores outputs that were not compared: {', '.join(left)}")
    return errors


def wrongly_tokenized(path: Path) -> tuple[list[str], int]:
    """Return the prompts of a `tokens.json` with different ids from our tokenizer, and the number of prompts."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    config = SimpleNamespace(max_position_embeddings=77, pad_token_id=0)
    tokens, _ = tokenize(
        clip_tokenizer(), SimpleNamespace(config=config, device="cpu"), [case["prompt"] for case in stored]
    )
    wrong = [case["prompt"] for case, row in zip(stored, tokens.tolist(), strict=True) if row != case["tokens"]]
    return wrong, len(stored)


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Return the largest difference in units of the standard deviation of `wanted`; infinite if shapes differ.

    If `wanted` is stored in half precision, its rounding error is subtracted.
    """
    if got.shape != wanted.shape:
        return math.inf
    exact = wanted.double()
    difference = (got.double() - exact).abs()
    if wanted.dtype == torch.float16:
        _, exponent = torch.frexp(exact)
        # Half precision has eleven significant bits; rounding changes a value by at most half of the last bit.
        rounding = torch.ldexp(torch.full_like(exact, 0.5), exponent.clamp(min=-13) - 11)
        difference = (difference - rounding).clamp(min=0)
    if not bool(difference.any()):
        return 0.0
    worst = difference.max() / exact.std()
    return float(worst) if bool(worst.isfinite()) else math.inf


def outputs(numbers: OfficialNumbers, model: RebuiltModel) -> Iterator[tuple[str, Tensor]]:
    """Yield our output for each name of a stored output."""
    conditions: dict[str, Tensor | None] = {}
    for name, tensor in (*_text(numbers, model), *_image(numbers, model)):
        conditions[name] = tensor
        yield name, tensor
    yield from _autoencoder(numbers, model)
    yield from _denoiser(numbers, model, conditions)
    change = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(model.signal_scale or 1.0))
    yield from _noising(numbers, change)
    for run in numbers.ddim_runs:
        yield from _sampling(numbers, model, change, conditions, run)


def _text(numbers: OfficialNumbers, model: RebuiltModel) -> Iterator[tuple[str, Tensor]]:
    for kind in ("", "null_"):
        tokens = numbers.expected[f"text.{kind}tokens"]
        yield f"text.{kind}embedding", model.text_encoder(input_ids=tokens).last_hidden_state


def _image(numbers: OfficialNumbers, model: RebuiltModel) -> Iterator[tuple[str, Tensor]]:
    if model.image_encoder is None or model.image_projector is None:
        return
    pixels = numbers.expected["image.pixels"]
    size = model.image_encoder.config.image_size
    yield "image.preprocessed_every_7th", preprocess(pixels, size)[..., ::7, ::7]
    tokens = encode_image(model.image_encoder, pixels)
    yield "image.clip_tokens", tokens
    yield "image.tokens", model.image_projector(tokens)
    null = null_image(len(pixels), model.image_encoder)
    yield "image.null_tokens", model.image_projector(encode_image(model.image_encoder, null))


def _autoencoder(numbers: OfficialNumbers, model: RebuiltModel) -> Iterator[tuple[str, Tensor]]:
    clip = numbers.draw("pixels", (1, 3, 2, *numbers.dims["pixels"])).tanh()
    frame = clip[:, :, 0]
    latents = encode_video(model.vae, frame[:, None], sample=False)
    yield "vae.mean", latents[:, :, 0] / model.vae.config.scaling_factor
    yield "vae.logvar", model.vae.encode(frame).latent_dist.logvar
    latent = numbers.draw("vae_latent", (1, 4, 2, *numbers.dims["latent"]))
    yield "vae.decoded", decode_video(model.vae, latent).transpose(1, 2)


def _denoiser(
    numbers: OfficialNumbers, model: RebuiltModel, conditions: dict[str, Tensor | None]
) -> Iterator[tuple[str, Tensor]]:
    cases = [name.split(".")[1] for name in numbers.expected if name.startswith("unet.") and name.endswith(".output")]
    for case in cases:
        name = f"unet.{case}.output"
        sample = numbers.draw(f"unet_x{case}", numbers.expected[name].shape)
        yield (
            name,
            model.unet(
                sample,
                numbers.expected[f"unet.{case}.timestep"],
                conditions["text.embedding"],
                numbers.expected[f"unet.{case}.fps"],
                conditions.get("image.tokens"),
            ),
        )


def _noising(numbers: OfficialNumbers, change: ChangeOfVariables) -> Iterator[tuple[str, Tensor]]:
    vp_abar = alphas_cumprod(torch.tensor(change.trained_betas, dtype=torch.float64))
    for name in ("q_sample", "q_sample2"):
        shape, timesteps = numbers.expected[f"{name}.noisy"].shape, numbers.expected[f"{name}.timestep"]
        noisy = add_noise(numbers.draw("x0", shape), numbers.draw("noise", shape), vp_abar[timesteps])
        yield f"{name}.noisy", change.scale_model_input(noisy, timesteps)


class GivenNoise(OfficialDDIMScheduler):
    """The official sampler with given noise for each step."""

    noises: list[Tensor]

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, eta: float, return_dict: bool) -> Any:
        noise = self.noises.pop(0)
        return super().step(
            model_output,
            timestep,
            sample,
            eta=eta,
            variance_noise=noise if eta > 0 else None,
            return_dict=return_dict,
        )


def _sampling(
    numbers: OfficialNumbers,
    model: RebuiltModel,
    change: ChangeOfVariables,
    conditions: dict[str, Tensor | None],
    run: dict[str, Any],
) -> Iterator[tuple[str, Tensor]]:
    index = run["ddim"]
    shape = (2, 4, run["frames"], *numbers.dims["latent"])
    scheduler = GivenNoise(signal_scale=model.signal_scale or 1.0)
    scheduler.noises = [numbers.draw(f"ddim{index}_noise{n}", shape) for n in range(run["n_noises"])]
    scheduler.set_timesteps(run["steps"])
    yield f"ddim.{index}.timesteps", scheduler.timesteps.flip(0)
    fps = torch.full((2,), run["fps"])
    prompted, null = (
        Conditions(text=conditions[f"text.{kind}embedding"], fps=fps, image=conditions.get(f"image.{kind}tokens"))
        for kind in ("", "null_")
    )
    # The official sampler starts at N(0, 1) in the variables of the scaled model.
    start = numbers.draw(f"xT{index}", shape) / float(change.input_scale[scheduler.timesteps[0]])
    steps = SamplingSteps(scheduler, run["steps"])
    latents = denoise(
        model.unet,
        steps,
        steps.start(start),
        prompted,
        null if run["guidance"] != 1.0 else None,
        SamplingSettings(num_inference_steps=run["steps"], guidance_scale=run["guidance"], eta=run["eta"]),
        input_scale=change.input_scale,
        generators=[],
    )
    if steps.scheduler.noises:
        raise ValueError(f"run {index} used {len(scheduler.noises)} noises fewer than the official sampler")
    yield f"ddim.{index}.latents", latents
    yield f"ddim.{index}.video", decode_video(model.vae, latents[:1]).transpose(1, 2)
