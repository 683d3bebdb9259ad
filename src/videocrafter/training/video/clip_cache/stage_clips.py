"""The clips of a stage: loading, encoding and caching."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedTokenizerBase

from videocrafter.data.loader import VideoLoader
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.training.video.clip_cache.clip_cache import CacheMemory, ClipCache
from videocrafter.training.video.clip_cache.description import describe
from videocrafter.training.video.clip_cache.encoder import CutEncoder, frozen_encoder
from videocrafter.training.video.clip_encoding import ClipEncoder, EncodedClips
from videocrafter.training.video.fixed_clips import fixed_clips
from videocrafter.training.video.frozen_networks import FrozenNetworks

if TYPE_CHECKING:
    from videocrafter.training.video.task_config import ClipDiffusionTaskConfig


class StageClips:
    """Creates a stage's loaders and encodes their batches.

    Args:
        config: configuration of the stage's task.
        sources: folders of the frozen networks.
        frozen: the networks themselves, loaded only if the cache does not contain everything.
        device: device of the encoded clips.

    Raises:
        CacheError: the cache cannot be used for this stage.
        ValueError: the networks cannot be read.
    """

    def __init__(
        self,
        config: ClipDiffusionTaskConfig,
        sources: Mapping[str, Path],
        frozen: FrozenNetworks,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
    ) -> None:
        self._config, self.cuts = config, config.cache.cuts
        self.takes_image = "image_encoder" in sources
        self.cache: ClipCache | None = None
        frame, chunk = config.condition_frame, config.encoded_frames
        if config.cache.folder is not None:
            description = describe(
                config.data.cutting,
                sources,
                condition_frame=config.condition_frame,
                network_dtype=config.frozen_weights,
                dtype=config.cache.dtype,
            )
            self.cache = ClipCache(config.cache, description)
        self.encoder: ClipEncoder | CutEncoder
        if self.cuts is not None:
            self.encoder = CutEncoder(
                frozen, tokenizer, self.cache, condition_frame=frame, chunk=chunk, device=device
            )
        else:
            self.encoder = frozen_encoder(frozen, tokenizer, condition_frame=frame, chunk=chunk)

    def loader(self, data: LoaderConfig, rank: int, world_size: int) -> VideoLoader:
        """Return a loader of training clips."""
        memory = None
        if self.cache is not None:
            memory = CacheMemory(self.cache, decodes=self._config.cache.fill != "never")
        return VideoLoader(data, rank=rank, world_size=world_size, cuts=self.cuts, cache=memory)

    def fixed(self) -> list[EncodedClips]:
        """Return the fixed clips of validation; those that are not cached are encoded."""
        memory = None if self.cache is None else CacheMemory(self.cache, decodes=True)
        return fixed_clips(self._config.data, self._config.validation, self.encoder, cuts=self.cuts, cache=memory)

    def close(self) -> None:
        """Write pending cache entries."""
        if self.cache is not None:
            self.cache.close()
