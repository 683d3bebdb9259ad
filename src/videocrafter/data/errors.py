"""What can be wrong with data: with a sample, which is skipped and counted, or with a source as a whole."""

from __future__ import annotations

REASONS = {
    "missing": "the file, or the archive that should hold it, is not there",
    "unreadable": "no video or image, or damaged where it was read",
    "truncated": "ends before it says; mostly a download that was cut off",
    "no_frames": "a video stream out of which no frame comes",
    "audio_only": "sound without a picture",
    "absurd_size": "more pixels than allowed, or a shape that only a broken header has",
    "no_rate": "no frame rate, or one that no camera has",
    "too_slow": "took longer than the time limit, also a decoder that hung",
    "crashed": "ended the process that decoded it",
    "no_caption": "no caption, or an empty one",
    "outside_folder": "a path that leaves the source's folder",
    "damaged_archive": "an archive that is damaged or cut off; what stands before the damage is used",
    "unexpected": "an error that nobody foresaw; the report has its text",
    "too_short": "too few frames for the shortest length, and the rule is to skip those",
    "too_small": "would have to be enlarged more than allowed",
}
"""Why a sample may be left out, in the words of the report."""

UNSUITED = frozenset({"too_short", "too_small"})
"""Reasons that leave out whole and readable samples, by a rule of one's own."""


class BadSampleError(Exception):
    """A sample that cannot be used; `reason` is a key of `REASONS`, the message says more in one line."""

    def __init__(self, reason: str, message: str) -> None:
        assert reason in REASONS, reason
        super().__init__(" ".join(message.split()))
        self.reason = reason


class SourceError(ValueError):
    """A source cannot be used as described; found out before the first sample. One line, with what to do."""


class TooManyBadSamplesError(RuntimeError):
    """More samples had to be left out than the rules allow. One line, with the reasons and the report."""
