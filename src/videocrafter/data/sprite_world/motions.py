"""How the sprite world's subjects move: positions, sizes and angles as functions of physical time.

Lengths are in units of the frame's half-width with (0, 0) in the middle, x to the right and y down; sizes are
diameters in units of the frame's width; angles are in radians, clockwise. So a clip is the same at every
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MOTIONS: tuple[str, ...] = (
    "left",
    "right",
    "up",
    "down",
    "up_left",
    "up_right",
    "down_left",
    "down_right",
    "growing",
    "shrinking",
    "spinning",
    "bouncing",
    "orbiting",
    "still",
)
SPEEDS: tuple[str, ...] = ("slow", "medium", "fast")
OPPOSITES: dict[str, str] = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
    "up_left": "down_right",
    "down_right": "up_left",
    "up_right": "down_left",
    "down_left": "up_right",
    "growing": "shrinking",
    "shrinking": "growing",
}

_DIAGONAL = 0.5**0.5
DIRECTIONS: dict[str, tuple[float, float]] = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "up_left": (-_DIAGONAL, -_DIAGONAL),
    "up_right": (_DIAGONAL, -_DIAGONAL),
    "down_left": (-_DIAGONAL, _DIAGONAL),
    "down_right": (_DIAGONAL, _DIAGONAL),
}
# What "slow", "medium" and "fast" mean.
LINEAR_SPEED: tuple[float, float, float] = (0.20, 0.32, 0.50)  # widths per second
SCALE_RATE: tuple[float, float, float] = (0.43, 0.70, 1.10)  # natural logarithm of the size, per second
SPIN_RATE: tuple[float, float, float] = (0.35, 0.60, 1.00)  # turns per second
HOP_RATE: tuple[float, float, float] = (0.80, 1.30, 2.00)  # hops per second
ORBIT_RATE: tuple[float, float, float] = (0.40, 0.70, 1.10)  # turns per second

DIAMETER = 0.42
SMALLEST_DIAMETER, LARGEST_DIAMETER = 0.12, 0.95
HOP_HEIGHT = 0.64
ORBIT_RADIUS = 0.52
# A sprite on its orbit is drawn smaller, so that it stays within the frame.
ORBIT_SHRINK = 0.8


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """Where N sprites are in T frames."""

    centers: FloatArray  # [N, T, 2] in half-widths
    sizes: FloatArray  # [N, T] diameters in widths
    angles: FloatArray  # [N, T] in radians, clockwise


def _rates(motions: NDArray[np.int64], speeds: NDArray[np.int64]) -> dict[str, FloatArray]:
    """Return, per kind of motion, each sprite's rate: zero for sprites that move in another way."""
    kinds = {
        "growing": SCALE_RATE,
        "shrinking": SCALE_RATE,
        "spinning": SPIN_RATE,
        "bouncing": HOP_RATE,
        "orbiting": ORBIT_RATE,
    }
    return {
        name: np.where(motions == MOTIONS.index(name), np.asarray(values)[speeds], 0.0)[:, None]
        for name, values in kinds.items()
    }


def trajectories(
    motions: Sequence[str],
    speeds: Sequence[str],
    *,
    middles: FloatArray,
    diameters: FloatArray,
    angles: FloatArray,
    times: FloatArray,
    durations: FloatArray,
) -> Trajectories:
    """Return where each sprite is, how large and how far turned, at each time.

    Args:
        motions: N names of MOTIONS.
        speeds: N names of SPEEDS; "still" ignores its own.
        middles: [N, 2] the point about which each path is centred, in half-widths.
        diameters: [N] the sprite's diameter in widths, half-way through the clip.
        angles: [N] the sprite's angle at time 0, in radians.
        times: [N, T] seconds since the clip's first frame.
        durations: [N] seconds between the clip's first and last frame. Straight paths pass the middle, and
            growing sprites have their normal size, at half of it.

    Displacement between neighbouring frames is speed / fps, whatever the clip's length: sprites that are fast
    at a low fps leave the frame in part.
    """
    motion = np.array([MOTIONS.index(name) for name in motions], dtype=np.int64)
    speed = np.array([SPEEDS.index(name) for name in speeds], dtype=np.int64)
    from_middle = times - durations[:, None] / 2
    rate = _rates(motion, speed)

    direction = np.array([DIRECTIONS.get(name, (0.0, 0.0)) for name in MOTIONS])[motion]
    travelled = 2 * np.asarray(LINEAR_SPEED)[speed][:, None] * from_middle  # 1 width = 2 half-widths
    centers = middles[:, None, :] + direction[:, None, :] * travelled[:, :, None]

    hops = (motion == MOTIONS.index("bouncing"))[:, None]
    height = np.abs(np.sin(np.pi * rate["bouncing"] * times))
    centers[:, :, 1] += np.where(hops, HOP_HEIGHT * (0.5 - height), 0.0)

    orbits = (motion == MOTIONS.index("orbiting"))[:, None]
    turn = 2 * np.pi * rate["orbiting"] * times + angles[:, None]
    centers[:, :, 0] += np.where(orbits, ORBIT_RADIUS * np.sin(turn), 0.0)
    centers[:, :, 1] -= np.where(orbits, ORBIT_RADIUS * np.cos(turn), 0.0)

    growth = np.exp((rate["growing"] - rate["shrinking"]) * from_middle)
    sizes = np.clip(diameters[:, None] * growth, SMALLEST_DIAMETER, LARGEST_DIAMETER)
    sizes = np.where(orbits, sizes * ORBIT_SHRINK, sizes)

    own_angle = np.where(orbits, 0.0, angles[:, None])
    turned = own_angle + 2 * np.pi * rate["spinning"] * times
    return Trajectories(centers=centers, sizes=sizes, angles=turned)
