"""Configuration of the data loader."""

from __future__ import annotations

from dataclasses import dataclass, field

from videocrafter.data.bad_samples import BadSampleRules
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.decoding_pool import StartMethod
from videocrafter.data.source import SourceConfig


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Sources, batches, order and workers.

    Fields marked `harmless` do not affect the samples, so they may change when a run is resumed.

    Attributes:
        sources: configurations, or lines such as "webvid:/data/train.csv?root=/data&weight=2" (see `parse_source`).
            A loader needs at least one.
        batch_size: videos per batch and process.
        image_batch_size: images per batch and process; None means `batch_size`.
        image_share: fraction of batches that are images. Required if there are sources of both kinds, else None.
        one_clip: use only the first clip of the first source.
        cutting: selection, cropping and scaling of frames.
        shuffle: whether clips come in random order.
        seed: at least 0; determines order and cuts.
        epochs: passes over every source; None is endless, as training needs. With a number, the last batches may be
            smaller, and the number of batches may differ between processes.
        num_workers: decoding processes; 0 decodes in the training process, which cannot stop a decoder that hangs.
        start_method: start method of workers. "spawn" is safe; "fork" is faster but unsafe once CUDA or threads are
            in use.
        prefetch_batches: batches to prepare in advance.
        bad_samples: treatment of samples that cannot be used.
    """

    sources: tuple[str | SourceConfig, ...] = ()
    batch_size: int = 1
    image_batch_size: int | None = None
    image_share: float | None = None
    one_clip: bool = False
    cutting: CuttingConfig = field(default_factory=CuttingConfig)
    shuffle: bool = True
    seed: int = 0
    epochs: int | None = None
    num_workers: int = field(default=2, metadata={"harmless": True})
    start_method: StartMethod = field(default="spawn", metadata={"harmless": True})
    prefetch_batches: int = field(default=2, metadata={"harmless": True})
    bad_samples: BadSampleRules = field(default_factory=BadSampleRules)

    def __post_init__(self) -> None:
        if type(self.sources) is not tuple:
            raise ValueError(f"sources is {self.sources!r}, expected a tuple of sources")
        for name, least in (
            ("batch_size", 1),
            ("image_batch_size", 1),
            ("seed", 0),
            ("epochs", 1),
            ("num_workers", 0),
            ("prefetch_batches", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value!r}, expected {least} or more")
        if self.image_share is not None and not 0 <= self.image_share <= 1:
            raise ValueError(f"image_share is {self.image_share!r}, expected a fraction from 0 to 1")
        if self.start_method not in ("spawn", "fork", "forkserver"):
            raise ValueError(f"start_method is {self.start_method!r}, expected 'spawn', 'fork' or 'forkserver'")
