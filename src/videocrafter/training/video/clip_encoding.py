"""Clips encoded by the frozen networks, as the video network is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel, PreTrainedTokenizerBase

from videocrafter.data.sample import VideoBatch
from videocrafter.models.autoencoder import Posterior, encode_posterior
from videocrafter.models.image_encoder import encode_image, null_image
from videocrafter.models.text_encoder import encode_text
from videocrafter.training.randomness import derive_seed
from videocrafter.training.video.long_captions import LongCaptions

ConditionFrame = Literal["first", "random"]


@dataclass(frozen=True, kw_only=True)
class EncodedClips:
    """B encoded clips or images.

    Attributes:
        latents: the autoencoder's posterior, scaled, [B, C, T, H, W].
        text: tokens of the captions, [B, L, D].
        fps: frames per second, [B].
        image_tokens: tokens of one frame of each clip, unprojected, [B, M, D]; None without an image branch.
        captions, keys: as in `VideoBatch`.
    """

    latents: Posterior
    text: Tensor
    fps: Tensor
    image_tokens: Tensor | None
    captions: tuple[str, ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def num_frames(self) -> int:
        """Frames per clip; 1 for images."""
        return self.latents.mean.shape[2]

    def to(self, device: torch.device) -> EncodedClips:
        """Copy to a device, in float32."""
        return replace(
            self,
            latents=Posterior(
                mean=self.latents.mean.to(device, torch.float32), std=self.latents.std.to(device, torch.float32)
            ),
            text=self.text.to(device, torch.float32),
            fps=self.fps.to(device),
            image_tokens=None if self.image_tokens is None else self.image_tokens.to(device, torch.float32),
        )


class EncodesClips(Protocol):
    """An encoder of clips and of the null conditions."""

    def encode(self, batch: VideoBatch) -> EncodedClips:
        """Encode clips."""

    def null_text(self) -> Tensor:
        """Tokens [1, L, D] of the empty caption."""

    def null_image(self) -> Tensor:
        """Tokens [1, M, D] of the unconditional image, unprojected."""


class ClipEncoder:
    """Encodes clips with the frozen networks.

    Args:
        image_encoder: None without an image branch.
        condition_frame: which frame of a clip is its image. "random" draws one from the clip's key, so that the image
            conditions the content and not the beginning of the clip.
        chunk: frames in the autoencoder at once.

    Attributes:
        long_captions: counts of the captions encoded so far.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: CLIPTextModel,
        image_encoder: CLIPVisionModel | None = None,
        *,
        condition_frame: ConditionFrame = "random",
        chunk: int = 8,
    ) -> None:
        self.vae, self.tokenizer, self.text_encoder, self.image_encoder = vae, tokenizer, text_encoder, image_encoder
        self._condition_frame, self._chunk = condition_frame, chunk
        self.long_captions = LongCaptions()
        for network in self.networks().values():
            network.requires_grad_(False).eval()
        self._null_text: Tensor | None = None
        self._null_image: Tensor | None = None

    def networks(self) -> dict[str, nn.Module]:
        """The frozen networks by their name in a pipeline folder."""
        found: dict[str, nn.Module] = {"vae": self.vae, "text_encoder": self.text_encoder}
        if self.image_encoder is not None:
            found["image_encoder"] = self.image_encoder
        return found

    @torch.no_grad()
    def encode(self, batch: VideoBatch, text_BLD: Tensor | None = None) -> EncodedClips:
        """Encode clips. A clip's result does not depend on its batch, except for rounding.

        Args:
            text_BLD: tokens of the captions, if they are known.
        """
        device = self.vae.device
        pixels = batch.pixels.to(device)
        # In the networks' own precision: a cache must not depend on how the video network is trained.
        with torch.autocast(device.type, enabled=False):
            return EncodedClips(
                latents=encode_posterior(self.vae, pixels, chunk=self._chunk),
                text=self.encode_captions(batch.captions) if text_BLD is None else text_BLD,
                fps=batch.fps.to(device),
                image_tokens=self._image_tokens(pixels, batch.keys),
                captions=batch.captions,
                keys=batch.keys,
            ).to(device)

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Text tokens [B, L, D]. Captions that are longer than the encoder are truncated, and counted."""
        self.long_captions += LongCaptions.among(captions, self.tokenizer, self.text_encoder)
        with torch.autocast(self.text_encoder.device.type, enabled=False):
            return encode_text(self.tokenizer, self.text_encoder, captions)

    def null_text(self) -> Tensor:
        """Tokens [1, L, D] of the empty caption."""
        if self._null_text is None:
            self._null_text = self.encode_captions([""]).float()
        return self._null_text

    @torch.no_grad()
    def null_image(self) -> Tensor:
        """Tokens [1, M, D] of the unconditional image, unprojected."""
        assert self.image_encoder is not None
        if self._null_image is None:
            with torch.autocast(self.image_encoder.device.type, enabled=False):
                self._null_image = encode_image(self.image_encoder, null_image(1, self.image_encoder)).float()
        return self._null_image

    def _image_tokens(self, pixels_BTCHW: Tensor, keys: Sequence[str]) -> Tensor | None:
        if self.image_encoder is None:
            return None
        count, num_frames = pixels_BTCHW.shape[:2]
        chosen = [0] * count
        if self._condition_frame == "random":
            chosen = [derive_seed("condition frame", key) % num_frames for key in keys]
        frames_BCHW = pixels_BTCHW[torch.arange(count, device=pixels_BTCHW.device), torch.tensor(chosen)]
        return encode_image(self.image_encoder, frames_BCHW)
