"""Scores of a piece, from the measurements of its frames. All are stored, whether a recipe uses them or not."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from videocrafter.preparation.scan.crop import Crop, find_crop
from videocrafter.preparation.scan.measures import Recorder
from videocrafter.preparation.scan.pieces import Piece

# Below these, a frame repeats the one before (coding noise remains), and a picture shows nothing.
_FROZEN, _BLANK = 0.6, 3.0
# Shorter repetitions are those of a lower frame rate, such as animation on twos.
_SHORTEST_FREEZE_S = 0.25
# Displacements in pixels between two samples below which a place is still.
_STILL_PIXELS = 0.25
_SHARPNESS_FRAMES = 8


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
    thumbs = [_cropped(frames.thumb[samples.frame[i]], crop) for i in inside]
    deviations = [float(cv2.cvtColor(thumb, cv2.COLOR_RGB2GRAY).std()) for thumb in thumbs]
    sharpest = inside[:: max(1, len(inside) // _SHARPNESS_FRAMES)]
    middle = min(recorder.pictures, key=lambda frame: abs(frame - (piece.first + piece.last) // 2))
    return {
        "crop": list(crop),
        "picture": (crop[1] - crop[0]) * (crop[3] - crop[2]),
        **_motion(recorder, inside, part, piece),
        "shake": _shake(recorder, piece),
        "luma": _mean([samples.luma[i][part].mean() for i in inside]),
        "dark": _mean([samples.dark[i][part].mean() for i in inside]),
        "bright": _mean([samples.bright[i][part].mean() for i in inside]),
        "saturation": _mean([samples.saturation[i][part].mean() for i in inside]),
        "sharpness": float(np.median([samples.sharpness[i][part].mean() for i in sharpest])) if sharpest else 0.0,
        "frozen": _frozen_s(changes, frames.time_s[piece.first : piece.last + 1]) / duration_s,
        "blank": _share([deviation < _BLANK for deviation in deviations]),
        "damaged": sum(frames.is_damaged[piece.first : piece.last + 1]) / count,
        "false_cuts_per_s": sum(piece.first < frame <= piece.last for frame in false_cuts) / duration_s,
        "hashes": [_difference_hash(thumbs[i]) for i in _three(len(thumbs))],
        "thumbnail": base64.b64encode(recorder.pictures[middle].tobytes()).decode(),
    }


def _motion(recorder: Recorder, inside: list[int], part: tuple[slice, slice], piece: Piece) -> dict[str, float]:
    """Mean and 95th percentile of speed, share of still places, share of motion that all places have in common."""
    times, samples = recorder.frames.time_s, recorder.samples
    means, speeds, stills, common = [], [], [], []
    for before, now in pairwise(inside):
        # Both frames must be in the piece, or the flow spans a cut.
        interval_s = times[samples.frame[now]] - times[samples.frame[before]]
        if now != before + 1 or interval_s <= 0:
            continue
        speed, flow = samples.speed[now][part], samples.flow[now][part].reshape(-1, 2)
        per_second = 1 / (recorder.diagonal * interval_s)
        means.append(float(speed.mean()) * per_second)
        speeds.append(speed.ravel() * per_second)
        stills.append(float((speed < _STILL_PIXELS).mean()))
        length = float(np.hypot(flow[:, 0], flow[:, 1]).mean())
        rest = flow - np.median(flow, axis=0)
        common.append(1 - min(1.0, float(np.hypot(rest[:, 0], rest[:, 1]).mean()) / length) if length > 0.1 else 0.0)
    return {
        "motion": _mean(means),
        "motion_p95": float(np.percentile(np.concatenate(speeds), 95)) if speeds else 0.0,
        "still": _mean(stills),
        "global_motion": _mean(common),
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
    velocities = np.array([(one.x, one.y) for one in recorder.frames.shifts if piece.first < one.frame <= piece.last])
    if len(velocities) < 3:
        return 0.0
    # The median resists single jumps, such as a flash.
    return float(np.median(np.hypot(*(np.diff(velocities, axis=0).T))))


def _difference_hash(picture: np.ndarray) -> str:
    """Return 64 bits as 16 hexadecimal digits: whether each of 8 × 8 places is brighter than its right neighbour."""
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    bits = (small[:, :-1] > small[:, 1:]).ravel()
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def _cells_of(crop: Crop, grid: tuple[int, int]) -> tuple[slice, slice]:
    """Return the cells of the grid that lie inside a crop; at least one."""
    slices = []
    for (start, end), count in zip((crop[:2], crop[2:]), grid, strict=True):
        first = min(int(np.ceil(start * count - 0.05)), count - 1)
        slices.append(slice(first, max(int(np.floor(end * count + 0.05)), first + 1)))
    return slices[0], slices[1]


def _cropped(picture: np.ndarray, crop: Crop) -> np.ndarray:
    height, width = picture.shape[:2]
    rows = slice(int(np.ceil(crop[0] * height)), max(int(crop[1] * height), 2))
    columns = slice(int(np.ceil(crop[2] * width)), max(int(crop[3] * width), 2))
    return picture[rows, columns]


def _three(count: int) -> list[int]:
    """Indices at a sixth, a half and five sixths."""
    return [int(count * part / 6) for part in (1, 3, 5)] if count else []


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else 0.0


def _share(flags: list[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
