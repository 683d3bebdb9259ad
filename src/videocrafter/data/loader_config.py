"""What a loader is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from videocrafter.data.bad_samples import BadSampleRules
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.decoding_pool import StartMethod
from videocrafter.data.source import SourceConfig


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Sources, batches, order and workers.

    Fields marked `harmless` change nothing of what is drawn: training may go on with other values of them.

    Attributes:
        sources: configurations, or lines such as "webvid:/data/train.csv?root=/data&weight=2" (see `parse_source`).
            A loader needs at least one.
        batch_size: videos per batch of this process.
        image_batch_size: images per batch; None takes as many as videos.
        image_share: the share of batches that are images. None where all sources are of one kind; where both kinds
            are there it has to be said.
        cutting: how samples are cut out of clips.
        shuffle: whether clips come in random order.
        seed: decides orders and cuts; at least 0.
        epochs: how often every source is gone through; None never ends. The last batches may be smaller, and
            processes may have different numbers of them, so training takes None.
        num_workers: decoding processes; 0 decodes in the training process, where a decoder that hangs cannot be
            stopped. Changes nothing of what is drawn.
        start_method: how workers begin: "spawn" is safe, "fork" starts at once and is not safe once CUDA or threads
            are in use.
        prefetch_batches: batches that are ready before they are asked for.
        bad_samples: what happens with samples that cannot be used.
    """

    sources: tuple[str | SourceConfig, ...] = ()
    batch_size: int = 1
    image_batch_size: int | None = None
    image_share: float | None = None
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
            raise ValueError(f"image_share is {self.image_share!r}, expected a share between 0 and 1")
        if self.start_method not in ("spawn", "fork", "forkserver"):
            raise ValueError(f"start_method is {self.start_method!r}, expected 'spawn', 'fork' or 'forkserver'")
