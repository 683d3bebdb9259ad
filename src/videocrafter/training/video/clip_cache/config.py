"""Configuration of the clip cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from videocrafter.data.cached_cuts import FixedCuts
from videocrafter.training.config import SettingsError, harmless

StoredPrecision = Literal["bf16", "fp16", "fp32"]

_VARIANTS = 4


class CacheError(SettingsError):
    """A cache cannot be used; the message is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Settings of the cache for the results of the frozen networks.

    Attributes:
        folder: the cache's folder; None caches nothing.
        fill: "missing" encodes and adds missing entries; "never" only reads, so that training does not need the
            frozen networks, and stops with an error at a missing entry.
        variants: number of fixed cuts of each video (different start times, frame rates and crops); epoch e uses
            cut e modulo this number. None means 4 with a folder; without a folder, every epoch draws new cuts.
        image_variants: the same for images, if videos have fixed cuts.
        dtype: precision of cached tensors. "bf16" is lossless for networks that run in bf16.
        shard_mb: write a file as soon as this many megabytes are pending.
    """

    folder: str | None = None
    fill: Literal["missing", "never"] = harmless("missing")
    variants: int | None = None
    image_variants: int = 1
    dtype: StoredPrecision = "bf16"
    shard_mb: int = harmless(256)

    def __post_init__(self) -> None:
        for name, allowed in (("fill", ("missing", "never")), ("dtype", ("bf16", "fp16", "fp32"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"cache.{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        for name in ("variants", "image_variants", "shard_mb"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"cache.{name} is {value}, expected 1 or more")

    @property
    def cuts(self) -> FixedCuts | None:
        """The fixed cuts of each clip; None if every epoch draws new ones."""
        if self.folder is None and self.variants is None:
            return None
        return FixedCuts(per_video=self.variants or _VARIANTS, per_image=self.image_variants)
