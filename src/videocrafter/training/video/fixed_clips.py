"""The fixed clips of validation and samples: always the same, cut in the same way."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, replace

from videocrafter.data.cached_cuts import CutCache, FixedCuts
from videocrafter.data.errors import TooManyBadSamplesError
from videocrafter.data.loader import VideoLoader
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.training.video.clip_encoding import EncodedClips, EncodesClips

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """The validation loss: on fixed clips, at fixed noise levels, with fixed noise.

    Attributes:
        sources: held-out clips. Empty takes the first clips of the training data, whose loss shows that the model
            learns but not that it generalises. In training on one clip it is that clip, cut as in training.
        num_clips: number of clips of all sources together, divided evenly.
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
    cache: CutCache | None = None,
) -> list[EncodedClips]:
    """Encode the first clips of each validation source, one per `EncodedClips`.

    Unusable clips are skipped; only training limits their number.

    Args:
        data: how training cuts its samples.
        cuts, cache: as for a loader.

    Raises:
        SourceError: a source cannot be used as described.
        TooManyBadSamplesError: no source holds a usable clip.
    """
    takes_one = data.one_clip and not validation.sources
    # Overfitting one clip is measured on the part of it that is trained on.
    sampling = data.cutting.sampling if takes_one else replace(data.cutting.sampling, start="center")
    fixed = replace(
        data,
        cutting=replace(data.cutting, crop="center", flip=False, sampling=sampling),
        batch_size=1,
        image_batch_size=1,
        image_share=None,
        shuffle=False,
        seed=0,
        epochs=1,
        num_workers=0,
        one_clip=takes_one,
        bad_samples=replace(data.bad_samples, report=None, max_bad_share=1.0, max_left_out_share=1.0),
    )
    sources = validation.sources or data.sources
    if takes_one:
        sources = sources[:1]
    each, more = divmod(validation.num_clips, len(sources))
    found: list[EncodedClips] = []
    for index, source in enumerate(sources[: validation.num_clips]):
        with VideoLoader(replace(fixed, sources=(source,)), cuts=cuts, cache=cache) as loader:
            encoded = [encoder.encode(batch) for batch in itertools.islice(loader, each + (index < more))]
            if not encoded:
                _log.warning("Validation skips %s: no sample can be used: %s", source, loader.stats().left_out)
            found += encoded
    if not found:
        raise TooManyBadSamplesError(f"no clip of {', '.join(map(str, sources))} can be used for validation")
    return found
