"""Frame-wise encoding and decoding of videos, in chunks of bounded size and with the latent scale.

Shape suffixes: ``B`` batch, ``T`` frames, ``C`` channels, ``H``, ``W`` height and width, ``F`` folded frames
(``B * T``). Pixels are ``B T C H W`` in [-1, 1], latents ``B C T H W``.

The network is diffusers' ``AutoencoderKL``. Its ``scaling_factor`` (and ``shift_factor``, if it has one)
brings latents to roughly unit variance. Only this module applies them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

FRAMES_AT_ONCE = 8
"""Most frames per pass through the network by default."""
DECODER_BYTES = 2**28
"""Memory of the decoder's widest layers, which large frames are decoded one by one to keep to."""


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Normal distribution over the scaled latents of videos; both fields are ``B C T H W``."""

    mean: Tensor
    std: Tensor

    def draw(self, generator: torch.Generator | Sequence[torch.Generator] | None = None) -> Tensor:
        """Sample latents, with one generator for the batch or one per video.

        Raises ValueError if the number of generators is neither one nor the number of videos.
        """
        noise_BTCHW = _draw_per_video(self.std.transpose(1, 2).shape, generator, self.std)
        return self.mean + self.std * noise_BTCHW.transpose(1, 2)


def encode_posterior(vae: AutoencoderKL, pixels_BTCHW: Tensor, *, chunk: int = FRAMES_AT_ONCE) -> Posterior:
    """Encode videos frame by frame into distributions of scaled latents, in the autoencoder's dtype.

    At most ``chunk`` frames pass through the network at once; the result does not depend on it. The pixels must be on
    the autoencoder's device.

    Raises ValueError if the pixels do not have five dimensions, height or width is not a multiple of
    :func:`spatial_factor`, or ``chunk`` is below 1.
    """
    if pixels_BTCHW.ndim != 5:
        raise ValueError(f"pixels have shape {tuple(pixels_BTCHW.shape)}; expected B T C H W")
    num_videos, num_frames, _, height, width = pixels_BTCHW.shape
    factor = spatial_factor(vae)
    if height % factor or width % factor:
        raise ValueError(f"the video is {height} x {width} pixels; height and width must be multiples of {factor}")
    frames_FCHW = to_patches(vae, pixels_BTCHW.flatten(0, 1).to(vae.dtype))
    moments_FCHW = _in_chunks(lambda part: _moments(vae, part), frames_FCHW, chunk)
    mean_FCHW, logvar_FCHW = moments_FCHW.chunk(2, dim=1)
    std_FCHW = torch.exp(0.5 * logvar_FCHW.clamp(-30.0, 20.0))
    scaled_FCHW = (mean_FCHW - _shift(vae)) * vae.config.scaling_factor
    mean, std = (
        part.unflatten(0, (num_videos, num_frames)).transpose(1, 2).contiguous()
        for part in (scaled_FCHW, std_FCHW * vae.config.scaling_factor)
    )
    return Posterior(mean=mean, std=std)


def encode_video(
    vae: AutoencoderKL,
    pixels_BTCHW: Tensor,
    *,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    sample: bool = True,
    chunk: int = FRAMES_AT_ONCE,
) -> Tensor:
    """Encode videos frame by frame into scaled latents ``B C T H/f W/f`` (f is :func:`spatial_factor`).

    ``sample`` draws from the posterior, as in training; otherwise its mean is returned, as for a conditioning image.
    Pass one ``generator`` per video to make a video's latents independent of the rest of the batch. ``chunk`` and
    errors are those of :func:`encode_posterior` and :meth:`Posterior.draw`.
    """
    posterior = encode_posterior(vae, pixels_BTCHW, chunk=chunk)
    return posterior.draw(generator) if sample else posterior.mean


def decoded_at_once(widths: Sequence[int], latent_pixels: int, element_bytes: int) -> int:
    """Return how many frames a decoder takes per pass by default: as many as keep to `DECODER_BYTES`, at least 1.

    At full resolution it holds three tensors of its second width.

    Args:
        widths: `block_out_channels` of its config.
        latent_pixels: height times width of the latents.
    """
    frame = 3 * max(widths[:2]) * latent_pixels * 4 ** (len(widths) - 1) * element_bytes
    return max(1, min(FRAMES_AT_ONCE, DECODER_BYTES // frame))


def decode_video(vae: AutoencoderKL, latents_BCTHW: Tensor, *, chunk: int | None = None) -> Tensor:
    """Decode scaled latents frame by frame into pixels ``B T C H*f W*f``.

    Pixels are not clamped, because a training loss needs the raw values; clamp to [-1, 1] before writing a file. At
    most ``chunk`` frames pass through the network at once, by default :func:`decoded_at_once`; the result does not
    depend on it. Raises ValueError if the latents do not have five dimensions or ``chunk`` is below 1.
    """
    if latents_BCTHW.ndim != 5:
        raise ValueError(f"latents have shape {tuple(latents_BCTHW.shape)}; expected B C T H W")
    num_videos, _, num_frames, height, width = latents_BCTHW.shape
    if chunk is None:
        widths = vae.config.get("block_out_channels") or vae.config["decoder_block_out_channels"]
        chunk = decoded_at_once(widths, height * width, vae.dtype.itemsize)
    frames_FCHW = latents_BCTHW.transpose(1, 2).flatten(0, 1).to(vae.dtype)
    frames_FCHW = frames_FCHW / vae.config.scaling_factor + _shift(vae)
    pixels_FCHW = from_patches(vae, _in_chunks(lambda part: vae.decode(part).sample, frames_FCHW, chunk))
    return pixels_FCHW.unflatten(0, (num_videos, num_frames))


def check_decoder(vae: Any, latent_channels: int) -> None:
    """Raise ValueError unless an autoencoder decodes single frames of latents with this many channels.

    Besides ``AutoencoderKL``, for example ``AsymmetricAutoencoderKL`` and ``AutoencoderTiny`` do. The latter cannot
    encode into a distribution, so it serves pipelines that only decode.
    """
    name = type(vae).__name__
    config = getattr(vae, "config", None)
    needed = ("in_channels", "block_out_channels", "scaling_factor")
    missing = [key for key in needed if getattr(config, key, None) is None]
    if missing:
        raise ValueError(f"{name} has no {missing[0]} in its config; expected an autoencoder such as AutoencoderKL")
    required = [
        argument.name
        for argument in list(inspect.signature(vae.decode).parameters.values())[1:]
        if argument.default is argument.empty and argument.kind is argument.POSITIONAL_OR_KEYWORD
    ]
    if required:
        raise ValueError(
            f"{name} cannot be used: its decode needs {required[0]}; expected an autoencoder of single images, such"
            " as AutoencoderKL"
        )
    found = getattr(config, "latent_channels", latent_channels)
    if found != latent_channels:
        raise ValueError(
            f"{name} has {found} latent channels, but the network has {latent_channels}; use the"
            " autoencoder that the network was trained with"
        )


def _shift(vae: Any) -> float:
    # Some autoencoders, such as AsymmetricAutoencoderKL, have no such entry.
    return getattr(vae.config, "shift_factor", None) or 0.0


def spatial_factor(vae: AutoencoderKL) -> int:
    """Pixels per latent along each side: the patch size, doubled by each level but the last."""
    return patch_size(vae) * 2 ** (len(vae.config.block_out_channels) - 1)


def patch_size(vae: AutoencoderKL) -> int:
    """Side of the square pixel patches that the network takes as input channels; 1 for the official autoencoder.

    Convolutions at full resolution are too expensive for a small network. A network with 3 * p * p input channels
    takes each p x p patch as one position instead. Raises ValueError if the number of input channels is not of this
    form.
    """
    side = math.isqrt(vae.config.in_channels // 3)
    if vae.config.in_channels != 3 * side**2:
        raise ValueError(
            f"the autoencoder has {vae.config.in_channels} input channels; expected 3 * p * p for patches of p x p"
        )
    return side


def to_patches(vae: AutoencoderKL, pixels_FCHW: Tensor) -> Tensor:
    """Convert frames `[F, 3, H, W]` to the network's input `[F, 3*p*p, H/p, W/p]`."""
    return nn.functional.pixel_unshuffle(pixels_FCHW, patch_size(vae))


def from_patches(vae: AutoencoderKL, patches_FCHW: Tensor) -> Tensor:
    """Invert `to_patches`."""
    return nn.functional.pixel_shuffle(patches_FCHW, patch_size(vae))


def _moments(vae: AutoencoderKL, patches_FCHW: Tensor) -> Tensor:
    encoded = vae.encode(patches_FCHW)
    if not hasattr(encoded, "latent_dist"):
        raise ValueError(
            f"{type(vae).__name__} does not encode into a distribution; to encode clips or images, use an autoencoder"
            " such as AutoencoderKL"
        )
    return encoded.latent_dist.parameters


def _in_chunks(network: Callable[[Tensor], Tensor], frames_FCHW: Tensor, chunk: int) -> Tensor:
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; the number of frames per pass must be at least 1")
    return torch.cat([network(part) for part in frames_FCHW.split(chunk)])


def _draw_per_video(
    shape: Sequence[int], generator: torch.Generator | Sequence[torch.Generator] | None, like: Tensor
) -> Tensor:
    """Draw standard normal noise ``[B, ...]`` on each generator's device, so that a seed always has one result."""
    if generator is None:
        return torch.randn(*shape, device=like.device, dtype=like.dtype)
    if isinstance(generator, torch.Generator):
        return torch.randn(*shape, generator=generator, device=generator.device).to(like)
    if len(generator) != shape[0]:
        raise ValueError(
            f"got {len(generator)} generators for {shape[0]} videos; pass one generator, or one per video"
        )
    draws = [torch.randn(*shape[1:], generator=one, device=one.device).to(like) for one in generator]
    return torch.stack(draws)
