"""Scan a video, or a window of one: a single decoding pass that finds the pieces and computes their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import cv2

from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.framing import shrunk
from videocrafter.media.video_reader import VideoReader, open_reader
from videocrafter.preparation.config import ScanConfig, fingerprint
from videocrafter.preparation.failures import UnitError
from videocrafter.preparation.plan import Segment
from videocrafter.preparation.scan.measures import Recorder
from videocrafter.preparation.scan.pieces import find_pieces, given_pieces
from videocrafter.preparation.scan.scores import score_piece
from videocrafter.preparation.scan.small_picture import Shrinker
from videocrafter.preparation.scan.transitions import CutDetector, Transition, find_transitions

VERSION = 4
"""Raised when the same settings give other results."""

_OVERLAP_S = 2.0


def probe(source: Path | BinaryIO, name: str) -> dict[str, Any]:
    """Return size, rate and length of a video, as JSON data. Decodes one frame.

    Raises:
        UnitError: it cannot be used.
    """
    try:
        with open_reader(source, name) as reader:
            if reader.is_high_dynamic_range:
                raise UnitError("hdr", f"{name} is a high-dynamic-range video (HDR); convert it to SDR first")
            height, width = reader.size
            return {
                "height": height,
                "width": width,
                "fps": reader.fps,
                "frames": reader.num_frames,
                "duration_s": reader.duration_s,
                "codec": reader.codec,
                "bits_per_pixel": reader.bit_rate / max(1.0, height * width * reader.fps),
            }
    except UnusableMediaError as error:
        raise UnitError.of(error) from error


def scan(
    source: Path | BinaryIO,
    name: str,
    clip_ids: str,
    config: ScanConfig,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    segments: tuple[Segment, ...] = (),
) -> dict[str, Any]:
    """Return the pieces that begin in a window, with their scores, and the transitions, as JSON data.

    Args:
        clip_ids: what the ids of the pieces depend on besides their times.
        start_s, end_s: the window; None is the end of the video.
        segments: pieces that the source defines; empty to find them.

    Raises:
        UnitError: the video cannot be decoded.
    """
    # One unit has one core.
    cv2.setNumThreads(1)
    try:
        with open_reader(source, name) as reader:
            recorder, candidates, video_end_s = _recorded(reader, config, start_s, end_s)
    except UnusableMediaError as error:
        raise UnitError.of(error) from error
    # Outside the block above, where an error would be taken for one of the video.
    times_s = [*recorder.frames.time_s, video_end_s]
    problems: list[str] = []
    transitions: list[Transition] = []
    if segments:
        pieces, problems = given_pieces(segments, times_s, config)
        false_cuts = candidates
    else:
        transitions, false_cuts = find_transitions(candidates, recorder.frames.thumb, times_s[:-1], config)
        window = (start_s, times_s[-1] + 1 if end_s is None else end_s)
        pieces = find_pieces(transitions, times_s, window, config)
    return {
        "pieces": [
            {
                "id": fingerprint(clip_ids, f"{times_s[piece.first]:.4f}", f"{times_s[piece.last + 1]:.4f}"),
                "start_s": times_s[piece.first],
                "end_s": times_s[piece.last + 1],
                "frames": piece.last - piece.first + 1,
                "shot": piece.shot,
                "caption": piece.caption,
                **score_piece(recorder, piece, false_cuts),
            }
            for piece in pieces
        ],
        "transitions": [[one.kind, times_s[one.first], times_s[one.last]] for one in transitions],
        "frames": len(times_s) - 1,
        "problems": [f"{name}: {problem}" for problem in problems],
    }


def _recorded(
    reader: VideoReader, config: ScanConfig, start_s: float, end_s: float | None
) -> tuple[Recorder, list[int], float]:
    """Return measurements of every frame of a window, candidates for cuts, and the end of the last frame."""
    recorder: Recorder | None = None
    shrinker, cuts = Shrinker(), CutDetector(config)
    is_last = True
    for frame in reader.walk(start_s=max(0.0, start_s - _OVERLAP_S)):
        if end_s is not None and frame.time_s >= end_s + _OVERLAP_S:
            is_last = False
            break
        if recorder is None:
            size = shrunk(*frame.size, config.long_side)
            recorder = Recorder(size.height, size.width, config.sample_fps)
        picture = shrinker.shrink(frame)
        recorder.add(frame, picture)
        cuts.add(picture.rgb, recorder.area(*picture.half.shape))
    if recorder is None:
        raise UnitError("no_frames", "no frame of the window can be decoded")
    last_s = recorder.frames.time_s[-1]
    return recorder, cuts.candidates(), max(last_s + 1 / reader.fps, reader.duration_s if is_last else 0.0)
