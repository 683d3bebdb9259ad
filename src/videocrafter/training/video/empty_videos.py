"""Inputs of a video pipeline's networks on the meta device: tensors that have shapes but no content."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from videocrafter.data.sample import VideoBatch
from videocrafter.models.autoencoder import Posterior, decode_video, encode_posterior, spatial_factor
from videocrafter.models.image_encoder import encode_image
from videocrafter.training.video.clip_encoding import EncodedClips
from videocrafter.training.video.diffusion_task import DiffusionTask
from videocrafter.training.video.meta_networks import META
from videocrafter.training.video.work import Call

DECODED_FRAMES = 8
"""Frames that pipelines decode at once."""
_FLOAT_BYTES = 4

Shape = tuple[int, int, int, int]
"""Samples, frames, height and width in pixels of a batch."""


@dataclass(frozen=True, kw_only=True)
class EmptyVideos:
    """Empty batches for a set of frozen networks, in place of a `ClipEncoder`.

    Attributes:
        image_encoder: None without an image branch.
    """

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    image_encoder: CLIPVisionModel | None = None

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The frozen networks by their name in a pipeline folder."""
        found: dict[str, nn.Module] = {"vae": self.vae, "text_encoder": self.text_encoder}
        if self.image_encoder is not None:
            found["image_encoder"] = self.image_encoder
        return found

    def latents(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """Latents [B, C, T, H, W]."""
        count, num_frames, height, width = shape
        factor = spatial_factor(self.vae)
        channels = int(self.vae.config.latent_channels)
        return torch.empty(count, channels, num_frames, height // factor, width // factor, device=META, dtype=dtype)

    def text(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Text tokens [B, L, D]."""
        config = self.text_encoder.config
        return torch.empty(count, config.max_position_embeddings, config.hidden_size, device=META, dtype=dtype)

    def image_tokens(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor | None:
        """Unprojected image tokens [B, M, D]; None without an image branch."""
        if self.image_encoder is None:
            return None
        config = self.image_encoder.config
        num_tokens = (config.image_size // config.patch_size) ** 2 + 1
        return torch.empty(count, num_tokens, config.hidden_size, device=META, dtype=dtype)

    def encode(self, batch: VideoBatch) -> EncodedClips:
        """Return empty clips of the batch's size."""
        count, num_frames, _, height, width = batch.pixels.shape
        mean, std = (self.latents((count, num_frames, height, width)) for _ in range(2))
        return EncodedClips(
            latents=Posterior(mean=mean, std=std),
            text=self.text(count),
            fps=batch.fps,
            image_tokens=self.image_tokens(count),
            captions=batch.captions,
            keys=batch.keys,
        )

    def null_text(self) -> Tensor:
        """Tokens [1, L, D] of the empty caption."""
        return self.text(1)

    def null_image(self) -> Tensor:
        """Tokens [1, M, D] of the unconditional image."""
        tokens = self.image_tokens(1)
        assert tokens is not None
        return tokens

    def encoding(self, shape: Shape, chunk: int) -> dict[str, Call]:
        """Return the calls of the frozen networks that encode a batch.

        Args:
            chunk: frames in the autoencoder at once.
        """
        count, num_frames, height, width = shape
        together = min(chunk, count * num_frames)
        numbers = 3 * math.prod(shape)
        dtype = self.vae.dtype
        copied = 0 if dtype == torch.float32 else dtype.itemsize

        def latents() -> object:
            pixels = torch.empty(1, together, 3, height, width, device=META, dtype=dtype)
            return encode_posterior(self.vae, pixels, chunk=together)

        def text() -> object:
            length = self.text_encoder.config.max_position_embeddings
            ids = torch.empty(count, length, dtype=torch.long, device=META)
            return self.text_encoder(input_ids=ids).last_hidden_state

        found = {
            "vae": Call(run=latents, times=count * num_frames / together, held=numbers * (_FLOAT_BYTES + copied)),
            "text_encoder": Call(run=text, held=numbers * _FLOAT_BYTES),
        }
        if self.image_encoder is not None:
            encoder = self.image_encoder

            def image() -> object:
                return encode_image(encoder, torch.empty(count, 3, height, width, device=META))

            found["image_encoder"] = Call(run=image, held=numbers * _FLOAT_BYTES)
        return found

    def sampling(self, task: DiffusionTask, shape: Shape, branches: int) -> dict[str, Call]:
        """Return the calls that make videos: one of the denoiser, and decoding.

        Args:
            branches: of the guidance, which the denoiser computes together.
        """
        count, num_frames, height, width = shape
        unet, projector = task.unet, task.projector

        def denoise() -> object:
            dtype, batch = unet.dtype, count * branches
            image_BQD = None
            if projector is not None:
                image_BQD = projector(self.image_tokens(batch, next(projector.parameters()).dtype)).to(dtype)
            return unet(
                self.latents((batch, num_frames, height, width), dtype),
                torch.empty(batch, dtype=torch.long, device=META),
                self.text(batch, dtype),
                torch.empty(batch, device=META),
                image_BQD,
            )

        def decode() -> object:
            frames = (1, min(DECODED_FRAMES, num_frames), height, width)
            return decode_video(self.vae, self.latents(frames, self.vae.dtype), chunk=DECODED_FRAMES)

        # All frames are kept, and joined at the end.
        pixels = 2 * 3 * math.prod(shape) * self.vae.dtype.itemsize
        return {"denoising": Call(run=denoise), "decoding": Call(run=decode, held=pixels)}
