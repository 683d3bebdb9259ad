"""Failures of one unit: a row with a reason, never the end of the run."""

from __future__ import annotations

import errno

from videocrafter.media.errors import UnusableMediaError

REASONS = {
    "missing": "the file does not exist, is a folder, or cannot be reached; tried again by the next run",
    "unreadable": "not a video, or damaged",
    "truncated": "ends before its stated end; usually an incomplete download",
    "no_frames": "a video stream without frames",
    "audio_only": "audio without video",
    "no_rate": "no frame rate, or an impossible one",
    "absurd_size": "a size that only a damaged header has",
    "hdr": "high dynamic range (PQ or HLG); convert it to SDR first",
    "bad_caption": "a caption file that cannot be decoded; its clips have no given caption",
    "bad_row": "a row of a list that cannot be trusted",
    "duplicate": "listed several times; the message says what is used",
    "no_such_clip": "a listed clip outside its video",
    "too_short": "shorter than sources.min_duration_s",
    "too_slow_rate": "fewer frames per second than sources.min_fps",
    "too_fast_rate": "more frames per second than sources.max_fps",
    "too_small": "a short side below sources.min_side",
    "odd_aspect": "sides that differ by more than sources.max_aspect",
    "too_slow": "took longer than limits.base_s and limits.per_video_s allow, limits.attempts times",
    "crashed": "ended its process limits.attempts times",
    "too_much_memory": "needed more memory than limits.memory_gib, limits.attempts times",
    "network": "could not be downloaded; tried again by the next run",
    "changed_source": "changed since the plan; left alone until --accept-changed, or until it is restored",
    "score_failed": "a network cannot score it; kept, and tried again by the next run",
    "caption_failed": "the caption model did not answer; tried again by the next run",
    "bad_model_output": "the caption model's text is unusable; tried again by the next run",
    "no_caption": "no given caption, and no caption model",
    "unexpected": "an unexpected error; see the message",
}
"""Reasons why a source or a clip is left out."""

TRANSIENT = frozenset({"missing", "changed_source", "network", "score_failed", "caption_failed", "bad_model_output"})
"""Reasons that the next run tries again by itself."""

UNSUITABLE = frozenset(
    {"too_short", "too_slow_rate", "too_fast_rate", "too_small", "odd_aspect", "hdr"}
    | {"duplicate", "no_such_clip", "bad_caption"}
)
"""Reasons of intact sources: a setting leaves them out, or their list is wrong. They do not count as bad."""


class UnitError(Exception):
    """A unit cannot be done. `reason` is a key of `REASONS`; the message gives the details in one line."""

    def __init__(self, reason: str, message: str) -> None:
        assert reason in REASONS, reason
        super().__init__(" ".join(message.split()))
        self.reason = reason

    @classmethod
    def of(cls, error: UnusableMediaError) -> UnitError:
        """Return the failure that an error of a video causes."""
        failure = cls(error.reason, str(error))
        failure.__cause__ = error
        return failure


class PreparationError(ValueError):
    """The run as a whole cannot begin or continue. One line that says what to do."""


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether the disk, or the user's part of it, is full."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether memory was refused, also behind an error that another one was turned into."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False
