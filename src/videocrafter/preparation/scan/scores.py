"""Scores of a piece, from the measurements of its frames. All are stored, whether a recipe uses them or not."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from videocrafter.preparation.scan.crop import Crop, cropped, find_crop
from videocrafter.preparation.scan.measures import Recorder
from videocrafter.preparation.scan.pieces import Piece

# Below these, a frame repeats the one before (coding noise remains), and a picture shows nothing.
_FROZEN, _BLANK = 0.6, 3.0
# Shorter repetitions are those of a lower frame rate, such as animation on twos.
_SHORTEST_FREEZE_S = 0.25
# Displacements in pixels between two samples below which a place is still.
_STILL_PIXELS = 0.25
# Seconds at both ends of a piece that are compared on their own, to find copies with another beginning or end.
_PART_S = 2.0


def score_piece(recorder: Recorder, piece: Piece, false_cuts: list[int]) -> dict[str, Any]:
    """Return the crop, the scores, the hashes and a small picture of a piece, as JSON data.

    Motion is in picture diagonals per second, luma from 0 to 255, shares from 0 to 1.

    Args:
        recorder: measurements of a walk.
        false_cuts: frames that the cut detector reported and that are not cuts.
    """
    frames, samples = recorder.frames, recorder.samples
    inside = [i for i, frame in enumerate(samples.frame) if piece.first <= frame <= piece.last]
    crop = find_crop([samples.rows[i] for i in inside], [samples.columns[i] for i in inside])
    part = _cells_of(crop, recorder.grid)
    count = piece.last - piece.first + 1
    duration_s = max(frames.time_s[piece.last] - frames.time_s[piece.first], 1e-3)
    changes = frames.change[piece.first + 1 : piece.last + 1]
    thumbs = [cropped(samples.thumb[i], crop) for i in inside]
    deviations = np.array([thumb.std() for thumb in thumbs])
    middle = min(recorder.pictures, key=lambda frame: abs(frame - (piece.first + piece.last) // 2))
    luma, dark, bright, saturation, sharpness = (
        _stacked([values[i] for i in inside])[:, part[0], part[1]].mean(axis=(1, 2))
        for values in (samples.luma, samples.dark, samples.bright, samples.saturation, samples.sharpness)
    )
    return {
        "crop": list(crop),
        "picture": (crop[1] - crop[0]) * (crop[3] - crop[2]),
        **_motion(recorder, inside, part),
        "shake": _shake(recorder, piece),
        "luma": _mean(luma),
        "dark": _mean(dark),
        "bright": _mean(bright),
        "saturation": _mean(saturation),
        "sharpness": float(np.median(sharpness)) if len(sharpness) else 0.0,
        "frozen": _frozen_s(changes, frames.time_s[piece.first : piece.last + 1]) / duration_s,
        "blank": _mean(deviations < _BLANK),
        "damaged": sum(frames.is_damaged[piece.first : piece.last + 1]) / count,
        "false_cuts_per_s": sum(piece.first < frame <= piece.last for frame in false_cuts) / duration_s,
        "hashes": _hashes(thumbs, np.array([frames.time_s[samples.frame[i]] for i in inside])),
        "thumbnail": base64.b64encode(recorder.pictures[middle].tobytes()).decode(),
    }


def _motion(recorder: Recorder, inside: list[int], part: tuple[slice, slice]) -> dict[str, float]:
    """Mean and 95th percentile of speed, share of still places, share of motion that all places have in common."""
    times, samples = recorder.frames.time_s, recorder.samples
    # Both frames must be in the piece, or the flow spans a cut.
    pairs = [now for now in inside[1:] if not np.isnan(samples.speed[now][0, 0])]
    if not pairs:
        return {"motion": 0.0, "motion_p95": 0.0, "still": 0.0, "global_motion": 0.0}
    intervals_s = np.array([times[samples.frame[now]] - times[samples.frame[now - 1]] for now in pairs])
    speed = np.stack([samples.speed[now] for now in pairs])[:, part[0], part[1]]
    flow = np.stack([samples.flow[now] for now in pairs])[:, part[0], part[1]].reshape(len(pairs), -1, 2)
    rest = flow - np.median(flow, axis=1, keepdims=True)
    length, apart = (np.hypot(one[..., 0], one[..., 1]).mean(axis=1) for one in (flow, rest))
    common = np.where(length > 0.1, 1 - np.minimum(1.0, apart / np.maximum(length, 0.1)), 0)
    velocity = speed / (recorder.diagonal * intervals_s[:, None, None])
    return {
        "motion": float(velocity.mean()),
        "motion_p95": float(np.percentile(velocity, 95)),
        "still": float((speed < _STILL_PIXELS).mean()),
        "global_motion": float(common.mean()),
    }


def _frozen_s(changes: list[float], times_s: list[float]) -> float:
    """Return the seconds in which the picture does not change for a while.

    Args:
        changes: between each two frames that follow each other.
        times_s: times of the frames, one more.
    """
    total_s = 0.0
    start_s = times_s[0]
    for change, before_s, time_s in zip([*changes, 255.0], times_s, [*times_s[1:], times_s[-1]], strict=True):
        if change >= _FROZEN:
            total_s += before_s - start_s if before_s - start_s >= _SHORTEST_FREEZE_S - 1e-6 else 0.0
            start_s = time_s
    return total_s


def _shake(recorder: Recorder, piece: Piece) -> float:
    """Mean change of the whole picture's velocity from one moment to the next, in diagonals per second.

    A steady pan has none; a hand or a vehicle has much.
    """
    jerks = [one.change for one in recorder.frames.jerks if piece.first < one.frame <= piece.last]
    # The median resists single jumps, such as a flash.
    return float(np.median(jerks)) if jerks else 0.0


def _difference_hash(picture: np.ndarray) -> str:
    """Return 64 bits as 16 hexadecimal digits: whether each of 8 × 8 places is brighter than its right neighbour."""
    small = cv2.resize(picture, (9, 8), interpolation=cv2.INTER_AREA)
    bits = (small[:, :-1] > small[:, 1:]).ravel()
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def _cells_of(crop: Crop, grid: tuple[int, int]) -> tuple[slice, slice]:
    """Return the cells of the grid that lie inside a crop; at least one."""
    slices = []
    for (start, end), count in zip((crop[:2], crop[2:]), grid, strict=True):
        first = min(int(np.ceil(start * count - 0.05)), count - 1)
        slices.append(slice(first, max(int(np.floor(end * count + 0.05)), first + 1)))
    return slices[0], slices[1]


def _hashes(thumbs: list[np.ndarray], times_s: np.ndarray) -> list[str]:
    """Return hashes of three pictures of the whole piece, of its first seconds, and of its last ones.

    Of two copies, one may end earlier, because a cut was found in it only; their beginnings are still the same. The
    hash of a blank picture is empty.
    """
    if not thumbs:
        return []
    start_s, end_s = float(times_s[0]), float(times_s[-1])
    part_s = min(_PART_S, end_s - start_s)
    found = []
    for first_s, length_s in ((start_s, end_s - start_s), (start_s, part_s), (end_s - part_s, part_s)):
        for place in (1 / 6, 1 / 2, 5 / 6):
            thumb = thumbs[int(np.argmin(abs(times_s - (first_s + place * length_s))))]
            found.append("" if thumb.std() < _BLANK else _difference_hash(thumb))
    return found


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _stacked(cells: list[np.ndarray]) -> np.ndarray:
    return np.stack(cells) if cells else np.zeros((0, 1, 1), np.float32)
