"""The sprite world as latents: clips and images encoded once and kept in memory.

Encoding takes a fifth of a training step of the miniature, and a finite number of clips is enough for several epochs.
Clips are therefore encoded in blocks, when first needed, and kept in half precision. A block is always encoded as one
batch, so that its values do not depend on when or in which run this happens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from transformers import CLIPVisionModel

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld
from videocrafter.models.autoencoder import encode_video
from videocrafter.models.image_encoder import encode_image

ENCODED_FRAMES = 64
"""Frames in the autoencoder at once."""


@dataclass(frozen=True, kw_only=True)
class LatentClips:
    """Clips (or images, T = 1) as latents [B, C, T, H, W], with their scripts.

    Attributes:
        image_tokens: tokens [B, M, D] of each clip's first frame; None without an image branch.
    """

    scripts: tuple[SceneScript, ...]
    latents: Tensor
    image_tokens: Tensor | None

    @property
    def captions(self) -> list[str]:
        """The caption of each clip."""
        return [script.caption for script in self.scripts]

    @property
    def fps(self) -> Tensor:
        """Frames per second [B]."""
        return torch.tensor([script.fps for script in self.scripts], device=self.latents.device)

    def __len__(self) -> int:
        return len(self.scripts)


class LatentClipSource:
    """Batches of the first `num_clips` clips of a world, in a new order each epoch.

    Args:
        world: renders the clips.
        vae: encodes them (the posterior's mean, scaled).
        image_encoder: encodes first frames; None leaves out image tokens.
        num_clips: clips per epoch; rounded down to whole blocks.
        block_size: clips that are encoded together and stay together in a batch.
        images: single images instead of clips.
    """

    def __init__(
        self,
        world: SpriteWorld,
        vae: AutoencoderKL,
        image_encoder: CLIPVisionModel | None,
        *,
        num_clips: int,
        block_size: int,
        images: bool = False,
        device: torch.device,
    ) -> None:
        if num_clips < block_size:
            raise ValueError(f"num_clips is {num_clips}; it must be at least the block size, {block_size}")
        self.world, self.vae, self.image_encoder = world, vae, image_encoder
        self.num_blocks, self.block_size = num_clips // block_size, block_size
        self.images, self.device = images, device
        self._blocks: dict[int, tuple[Tensor, Tensor | None]] = {}

    def batch(self, first_block: int, num_blocks: int, seed: int) -> LatentClips:
        """Return blocks `first_block` … `first_block + num_blocks - 1` of the endless shuffled order of `seed`."""
        chosen = [self._shuffled(position, seed) for position in range(first_block, first_block + num_blocks)]
        return self.clips(chosen)

    def clips(self, blocks: list[int]) -> LatentClips:
        """Return the clips of these blocks."""
        parts = [self._block(block) for block in blocks]
        tokens = [tokens for _, tokens in parts if tokens is not None]
        return LatentClips(
            scripts=tuple(script for block in blocks for script in self._scripts(block)),
            latents=torch.cat([latents for latents, _ in parts]).float(),
            image_tokens=torch.cat(tokens).float() if tokens else None,
        )

    def _shuffled(self, position: int, seed: int) -> int:
        epoch, place = divmod(position, self.num_blocks)
        if getattr(self, "_order_of", None) != (seed, epoch):
            self._order = np.random.default_rng([seed, epoch]).permutation(self.num_blocks)
            self._order_of = (seed, epoch)
        return int(self._order[place])

    def _scripts(self, block: int) -> list[SceneScript]:
        script = self.world.image_script if self.images else self.world.script
        return [script(index) for index in range(block * self.block_size, (block + 1) * self.block_size)]

    def _block(self, block: int) -> tuple[Tensor, Tensor | None]:
        if block not in self._blocks:
            self._blocks[block] = self._encode(self._scripts(block))
        return self._blocks[block]

    @torch.no_grad()
    def _encode(self, scripts: list[SceneScript]) -> tuple[Tensor, Tensor | None]:
        pixels = self.world.render(scripts).to(self.device)
        latents = encode_video(self.vae, pixels, sample=False, chunk=ENCODED_FRAMES).half()
        if self.image_encoder is None:
            return latents, None
        return latents, encode_image(self.image_encoder, pixels[:, 0]).half()
