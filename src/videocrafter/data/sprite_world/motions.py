"""Motions of the sprite world: position, size and angle as functions of physical time.

Positions are in half-widths of the frame, with (0, 0) in the middle, x to the right and y down. Sizes are diameters
in widths of the frame. Angles are in radians, clockwise. A clip is therefore the same at every resolution.

To add a motion, add an entry to `MOTION_TABLE`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Direction = tuple[float, float]

SPEEDS: tuple[str, ...] = ("slow", "medium", "fast")
# Rates at slow, medium and fast speed.
LINEAR_SPEED: tuple[float, float, float] = (0.20, 0.32, 0.50)  # widths per second
SCALE_RATE: tuple[float, float, float] = (0.43, 0.70, 1.10)  # natural logarithm of the size, per second
SPIN_RATE: tuple[float, float, float] = (0.35, 0.60, 1.00)  # turns per second
HOP_RATE: tuple[float, float, float] = (0.80, 1.30, 2.00)  # hops per second
ORBIT_RATE: tuple[float, float, float] = (0.40, 0.70, 1.10)  # turns per second

DIAMETER = 0.42
SMALLEST_DIAMETER, LARGEST_DIAMETER = 0.12, 0.95
HOP_HEIGHT = 0.64
ORBIT_RADIUS = 0.52
# Orbiting sprites are drawn smaller, so that they stay within the frame.
ORBIT_SHRINK = 0.8
_DIAGONAL = 0.5**0.5


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """Positions, sizes and angles of N sprites in T frames."""

    centers: FloatArray  # [N, T, 2] in half-widths
    sizes: FloatArray  # [N, T] diameters in widths
    angles: FloatArray  # [N, T] in radians, clockwise

    def __getitem__(self, rows: NDArray[np.int64]) -> Trajectories:
        return Trajectories(centers=self.centers[rows], sizes=self.sizes[rows], angles=self.angles[rows])

    def __setitem__(self, rows: NDArray[np.int64], moved: Trajectories) -> None:
        self.centers[rows], self.sizes[rows], self.angles[rows] = moved.centers, moved.sizes, moved.angles


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of N sprites in T frames, and the rates of their motion.

    Attributes:
        rates: [N, 1] in the unit of the motion.
        seconds: [N, T] since the clip's first frame.
        from_middle: [N, T] seconds since the middle of the clip.
    """

    rates: FloatArray
    seconds: FloatArray
    from_middle: FloatArray


Path = Callable[[Trajectories, Timing], Trajectories]
"""Moves sprites that are given at rest."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One way to move.

    Attributes:
        path: moves the sprites.
        rates: the motion's rate at each of SPEEDS, in the unit that `path` expects.
        phrases: synonyms for captions. Opposite motions list the same synonyms in the same order, so that a sentence
            about the opposite motion differs in one word (two on diagonals).
        opposite: name of the reverse motion, or None.
        direction: unit vector of a straight motion, else None.
    """

    path: Path
    rates: tuple[float, float, float]
    phrases: tuple[str, ...]
    opposite: str | None = None
    direction: Direction | None = None


def _straight(direction: Direction, opposite: str, short: str, long: str, special: str) -> Motion:
    def path(rest: Trajectories, timing: Timing) -> Trajectories:
        travelled = 2 * timing.rates * timing.from_middle  # 1 width = 2 half-widths
        return replace(rest, centers=rest.centers + np.array(direction) * travelled[:, :, None])

    return Motion(
        path=path,
        rates=LINEAR_SPEED,
        phrases=(f"moving {short}", f"flying {short}", f"going {short}", f"drifting {long}", special),
        opposite=opposite,
        direction=direction,
    )


def _scale(rest: Trajectories, exponents: FloatArray) -> Trajectories:
    return replace(rest, sizes=np.clip(rest.sizes * np.exp(exponents), SMALLEST_DIAMETER, LARGEST_DIAMETER))


def _grow(rest: Trajectories, timing: Timing) -> Trajectories:
    return _scale(rest, timing.rates * timing.from_middle)


def _shrink(rest: Trajectories, timing: Timing) -> Trajectories:
    return _scale(rest, -timing.rates * timing.from_middle)


def _spin(rest: Trajectories, timing: Timing) -> Trajectories:
    return replace(rest, angles=rest.angles + 2 * np.pi * timing.rates * timing.seconds)


def _bounce(rest: Trajectories, timing: Timing) -> Trajectories:
    height = np.abs(np.sin(np.pi * timing.rates * timing.seconds))
    return replace(rest, centers=rest.centers + np.stack([0 * height, HOP_HEIGHT * (0.5 - height)], axis=-1))


def _orbit(rest: Trajectories, timing: Timing) -> Trajectories:
    turn = 2 * np.pi * timing.rates * timing.seconds + rest.angles
    return Trajectories(
        centers=rest.centers + ORBIT_RADIUS * np.stack([np.sin(turn), -np.cos(turn)], axis=-1),
        sizes=rest.sizes * ORBIT_SHRINK,
        angles=np.zeros_like(rest.angles),
    )


def _stay(rest: Trajectories, timing: Timing) -> Trajectories:
    return rest


MOTION_TABLE: dict[str, Motion] = {
    "left": _straight((-1.0, 0.0), "right", "left", "to the left", "moving to the left"),
    "right": _straight((1.0, 0.0), "left", "right", "to the right", "moving to the right"),
    "up": _straight((0.0, -1.0), "down", "up", "up", "rising"),
    "down": _straight((0.0, 1.0), "up", "down", "down", "falling"),
    "up_left": _straight(
        (-_DIAGONAL, -_DIAGONAL),
        "down_right",
        "up and left",
        "up and to the left",
        "moving diagonally up and to the left",
    ),
    "up_right": _straight(
        (_DIAGONAL, -_DIAGONAL),
        "down_left",
        "up and right",
        "up and to the right",
        "moving diagonally up and to the right",
    ),
    "down_left": _straight(
        (-_DIAGONAL, _DIAGONAL),
        "up_right",
        "down and left",
        "down and to the left",
        "moving diagonally down and to the left",
    ),
    "down_right": _straight(
        (_DIAGONAL, _DIAGONAL),
        "up_left",
        "down and right",
        "down and to the right",
        "moving diagonally down and to the right",
    ),
    "growing": Motion(
        path=_grow,
        rates=SCALE_RATE,
        phrases=("growing", "getting bigger", "getting larger", "becoming bigger"),
        opposite="shrinking",
    ),
    "shrinking": Motion(
        path=_shrink,
        rates=SCALE_RATE,
        phrases=("shrinking", "getting smaller", "getting tinier", "becoming smaller"),
        opposite="growing",
    ),
    "spinning": Motion(path=_spin, rates=SPIN_RATE, phrases=("spinning", "rotating", "turning around", "whirling")),
    "bouncing": Motion(path=_bounce, rates=HOP_RATE, phrases=("bouncing", "hopping", "jumping")),
    "orbiting": Motion(
        path=_orbit, rates=ORBIT_RATE, phrases=("orbiting", "circling", "moving in a circle", "flying in circles")
    ),
    "still": Motion(
        path=_stay, rates=(0.0, 0.0, 0.0), phrases=("standing still", "staying still", "not moving", "resting")
    ),
}
MOTIONS: tuple[str, ...] = tuple(MOTION_TABLE)
OPPOSITES: dict[str, str] = {name: motion.opposite for name, motion in MOTION_TABLE.items() if motion.opposite}
DIRECTIONS: dict[str, Direction] = {
    name: motion.direction for name, motion in MOTION_TABLE.items() if motion.direction
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
    """Return the position, size and angle of each sprite at each time.

    Displacement between neighbouring frames is speed / fps, whatever the clip's length: at a low fps, fast sprites
    partly leave the frame.

    Args:
        motions: N names of MOTIONS.
        speeds: N names of SPEEDS; ignored by "still".
        middles: [N, 2] centre of each path, in half-widths.
        diameters: [N] diameter in widths, half-way through the clip.
        angles: [N] angle at time 0, in radians.
        times: [N, T] seconds since the clip's first frame.
        durations: [N] seconds between the clip's first and last frame. At half of it, straight paths pass their
            centre and growing sprites have their normal size.
    """
    speed = np.array([SPEEDS.index(name) for name in speeds], dtype=np.int64)
    from_middle = times - durations[:, None] / 2
    sizes = np.clip(diameters, SMALLEST_DIAMETER, LARGEST_DIAMETER)
    found = Trajectories(
        centers=np.repeat(middles[:, None], times.shape[1], axis=1),
        sizes=np.repeat(sizes[:, None], times.shape[1], axis=1),
        angles=np.repeat(angles[:, None], times.shape[1], axis=1),
    )
    for name in set(motions):
        rows = np.flatnonzero([motion == name for motion in motions])
        motion = MOTION_TABLE[name]
        rates = np.asarray(motion.rates)[speed[rows], None]
        found[rows] = motion.path(
            found[rows], Timing(rates=rates, seconds=times[rows], from_middle=from_middle[rows])
        )
    return found
