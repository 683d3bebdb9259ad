"""Motions follow physical time: displacement per frame is speed / fps."""

from __future__ import annotations

import numpy as np
import pytest

from videocrafter.data.sprite_world.motions import (
    DIAMETER,
    DIRECTIONS,
    HOP_HEIGHT,
    LARGEST_DIAMETER,
    LINEAR_SPEED,
    MOTIONS,
    OPPOSITES,
    SMALLEST_DIAMETER,
    SPEEDS,
    Trajectories,
    trajectories,
)


def move(
    motion: str, speed: str = "medium", *, fps: float = 8.0, frames: int = 9, angle: float = 0.0
) -> Trajectories:
    return trajectories(
        [motion],
        [speed],
        middles=np.zeros((1, 2)),
        diameters=np.array([DIAMETER]),
        angles=np.array([angle]),
        times=np.arange(frames)[None] / fps,
        durations=np.array([(frames - 1) / fps]),
    )


@pytest.mark.parametrize("fps", [4.0, 24.0])
@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("motion", sorted(DIRECTIONS))
def test_straight_motion_is_speed_over_fps(motion: str, speed: str, fps: float) -> None:
    path = move(motion, speed, fps=fps).centers[0]
    steps = np.diff(path, axis=0)
    widths_per_second = LINEAR_SPEED[SPEEDS.index(speed)]
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 2 * widths_per_second / fps)
    assert (np.sign(steps.round(9)) == np.sign(DIRECTIONS[motion])).all()
    np.testing.assert_allclose(path[4], 0, atol=1e-12)  # the path is centred in the frame


@pytest.mark.parametrize("motion", sorted(OPPOSITES))
def test_opposites_mirror_each_other(motion: str) -> None:
    opposite = OPPOSITES[motion]
    assert OPPOSITES[opposite] == motion
    np.testing.assert_allclose(move(opposite).centers, move(motion).centers[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(move(opposite).sizes, move(motion).sizes[:, ::-1])


def test_growing_at_medium_speed_doubles_in_a_second() -> None:
    sizes = move("growing").sizes[0]
    assert 1.9 < sizes[-1] / sizes[0] < 2.1
    assert sizes[4] == pytest.approx(DIAMETER)


def test_sizes_stay_in_bounds_however_long_the_clip() -> None:
    for motion in ("growing", "shrinking"):
        sizes = move(motion, "fast", fps=1.0).sizes
        assert sizes.min() == SMALLEST_DIAMETER
        assert sizes.max() == LARGEST_DIAMETER


def test_spinning_is_clockwise_on_the_spot() -> None:
    spin = move("spinning", "fast", fps=8.0)
    np.testing.assert_allclose(np.diff(spin.angles[0]), 2 * np.pi / 8)
    assert not spin.centers.any()


def test_bouncing_starts_on_the_ground_and_comes_back() -> None:
    path = move("bouncing", "medium", fps=13.0, frames=11).centers[0]
    assert path[0, 1] == path[:, 1].max() == HOP_HEIGHT / 2
    assert path[5, 1] == pytest.approx(-HOP_HEIGHT / 2)
    assert path[10, 1] == pytest.approx(HOP_HEIGHT / 2)
    assert not path[:, 0].any()


def test_orbiting_starts_at_the_top_and_goes_clockwise() -> None:
    orbit = move("orbiting", "slow", fps=8.0, frames=6)
    path = orbit.centers[0]
    assert path[0, 0] == pytest.approx(0)
    assert path[0, 1] < -0.5
    assert path[1, 0] > 0
    np.testing.assert_allclose(path[5], [0.52, 0.0], atol=1e-9)  # a quarter turn after 5/8 s: on the right
    assert orbit.sizes.max() < DIAMETER
    assert not orbit.angles.any()


def test_still_does_nothing() -> None:
    still = move("still", "fast", angle=0.1)
    assert not still.centers.any()
    assert np.ptp(still.sizes) == np.ptp(still.angles) == 0


def test_no_two_motions_are_the_same() -> None:
    paths = [
        np.concatenate([move(m).centers[0].ravel(), move(m).sizes[0], move(m).angles[0]]).round(6) for m in MOTIONS
    ]
    assert len({path.tobytes() for path in paths}) == len(MOTIONS)
