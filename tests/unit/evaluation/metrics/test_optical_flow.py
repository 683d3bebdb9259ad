import cv2
import numpy as np
import pytest

from videocrafter.evaluation.metrics.optical_flow import dense_flow, resized_to_short_side, warp


def texture(height: int = 96, width: int = 128) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (height, width, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2).clip(0, 255).astype(np.uint8)


def test_a_shifted_texture_has_the_flow_of_its_shift():
    frame = texture()
    shifted = np.roll(frame, (2, 3), axis=(0, 1))
    flow = dense_flow(frame, shifted)
    inner = flow[16:-16, 16:-16]
    assert inner[..., 0].mean() == pytest.approx(3, abs=0.1)
    assert inner[..., 1].mean() == pytest.approx(2, abs=0.1)


def test_warping_samples_at_the_displaced_position_and_marks_the_outside():
    picture = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    flow = np.zeros((3, 4, 2), np.float32)
    flow[..., 0] = 0.5
    warped, inside = warp(picture, flow)
    assert warped[1, :3, 0].tolist() == [4.5, 5.5, 6.5]
    assert inside[:, :3].all()
    assert not inside[:, 3].any()


def test_frames_are_scaled_to_a_short_side():
    assert resized_to_short_side(texture(96, 128), 48).shape == (48, 64, 3)
    assert resized_to_short_side(texture(96, 32), 64).shape == (192, 64, 3)
    frame = texture()
    assert resized_to_short_side(frame, 96) is frame
