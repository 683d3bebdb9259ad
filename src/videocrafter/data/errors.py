"""Errors in data: of one sample, which is skipped and counted, or of a source as a whole."""

from __future__ import annotations

REASONS = {
    "missing": "the file, or the archive that should contain it, does not exist",
    "unreadable": "not a video or image, or damaged",
    "truncated": "ends early; usually an incomplete download",
    "no_frames": "a video stream that yields no frames",
    "audio_only": "audio without video",
    "absurd_size": "more pixels than allowed, or dimensions that only a corrupt header has",
    "no_rate": "no frame rate, or an impossible one",
    "too_slow": "decoding exceeded the time limit or hung",
    "crashed": "decoding crashed its worker process",
    "no_caption": "no caption, or an empty one",
    "bad_caption": "a caption that is not valid text: wrongly encoded, or with NUL or half characters",
    "bad_row": "a row of a table that cannot be trusted: too many cells, an invalid time, invalid JSON",
    "outside_folder": "a path that leads out of the source's folder",
    "damaged_archive": "a damaged or truncated archive, or one without samples; samples before the damage are used",
    "unexpected": "an unexpected error; see its message in the report",
    "too_short": "too few frames for the shortest length, and `short_clips` is `skip`",
    "too_small": "would have to be enlarged by more than `max_enlargement`",
}
"""Reasons for skipping a sample, with the explanations of the data guide."""

UNSUITABLE = frozenset({"too_short", "too_small"})
"""Reasons for skipping intact samples because of a configured rule."""


class BadSampleError(Exception):
    """A sample cannot be used. `reason` is a key of `REASONS`; the message gives the details in one line."""

    def __init__(self, reason: str, message: str) -> None:
        assert reason in REASONS, reason
        super().__init__(" ".join(message.split()))
        self.reason = reason


class SourceError(ValueError):
    """A source cannot be used as described. Raised before the first sample, with a one-line message."""


class TooManyBadSamplesError(RuntimeError):
    """More samples were skipped than the rules allow. The one-line message lists the reasons and the report."""
