"""Whether and how what the frozen networks say is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from videocrafter.data.cached_cuts import FixedCuts
from videocrafter.training.config import SettingsError, harmless

StoredPrecision = Literal["bf16", "fp16", "fp32"]

_VARIANTS = 4


class CacheError(SettingsError):
    """A cache cannot be used for this; one line, with what to do."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Latents and text computed once.

    Attributes:
        folder: where they are kept; None keeps nothing.
        fill: "missing" computes and keeps what is not there; "never" only reads, so that the frozen networks are not
            needed for training, and refuses to go on where something is missing.
        variants: cuts of each video (other moments, rates and corners): in epoch e it shows cut e modulo this number.
            None takes 4 with a folder, and without one another cut in every epoch.
        image_variants: the same of images, where videos have fixed cuts.
        dtype: precision of what is kept. "bf16" loses nothing of networks that run in it.
        shard_mb: a file is written when there are so many million bytes for it.
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
        """The fixed cuts of clips; None cuts them anew in every epoch."""
        if self.folder is None and self.variants is None:
            return None
        return FixedCuts(per_video=self.variants or _VARIANTS, per_image=self.image_variants)
