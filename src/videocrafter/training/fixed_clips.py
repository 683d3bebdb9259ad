"""The clips that validation measures and samples are made of: always the same ones, cut in the same way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from videocrafter.data.known_cuts import CutMemory, FixedCuts
from videocrafter.data.loader import VideoLoader
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.training.clip_encoding import EncodedClips, EncodesClips


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """The loss on fixed clips at fixed noise levels, with fixed noise.

    Attributes:
        sources: clips that are not trained on; empty takes the first clips of the training data, whose loss tells
            whether anything is learned, not whether it holds for others.
        num_clips: how many.
        timesteps: noise levels, of 1000.
    """

    sources: tuple[str, ...] = ()
    num_clips: int = 8
    timesteps: tuple[int, ...] = (50, 250, 500, 750, 950)

    def __post_init__(self) -> None:
        if self.num_clips < 1:
            raise ValueError(f"validation.num_clips is {self.num_clips}; it must be 1 or more")
        if not self.timesteps or not all(0 <= timestep < 1000 for timestep in self.timesteps):
            raise ValueError(f"validation.timesteps is {self.timesteps}; expected numbers from 0 to 999")


def fixed_clips(
    data: LoaderConfig,
    validation: ValidationConfig,
    encoder: EncodesClips,
    *,
    cuts: FixedCuts | None = None,
    memory: CutMemory | None = None,
) -> list[EncodedClips]:
    """The first clips of the validation's sources, one in each, encoded.

    Args:
        data: how training cuts its samples.
        cuts, memory: as for a loader.

    Raises:
        ValueError: the sources cannot be read, or hold no clip that can be used.
    """
    if validation.sources:
        data = replace(data, sources=validation.sources, image_share=None)
    sampling = replace(data.cutting.sampling, start="center")
    fixed = replace(
        data,
        cutting=replace(data.cutting, crop="center", flip=False, sampling=sampling),
        batch_size=1,
        image_batch_size=1,
        shuffle=False,
        seed=0,
        epochs=1,
        num_workers=0,
        bad_samples=replace(data.bad_samples, report=None),
    )
    with VideoLoader(fixed, cuts=cuts, memory=memory) as loader:
        found = [encoder.encode(batch) for batch, _ in zip(loader, range(validation.num_clips), strict=False)]
    if not found:
        raise ValueError("the validation's sources hold no clip that can be used")
    return found
