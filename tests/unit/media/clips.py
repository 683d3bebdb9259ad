"""Small clips whose frames are all different."""

import numpy as np


def moving_disc(num_frames: int = 8, height: int = 64, width: int = 64) -> np.ndarray:
    """A red disc that crosses a shaded blue field: uint8 `[T, H, W, 3]`."""
    y, x = np.mgrid[0:height, 0:width]
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for index in range(num_frames):
        frames[index, ..., 0] = x * 127 // width
        frames[index, ..., 1] = 90
        frames[index, ..., 2] = 120 + y * 100 // height
        centre = width * (index + 1) / (num_frames + 1)
        frames[index][(x - centre) ** 2 + (y - height / 2) ** 2 < (height / 6) ** 2] = (230, 40, 30)
    return frames


def numbered(num_frames: int, size: int = 32) -> np.ndarray:
    """Frames that show their number in eight black and white blocks, so that no codec can blur it away.

    uint8 `[T, H, W, 3]`, for up to 256 frames.
    """
    bits = np.arange(num_frames)[:, None] >> np.arange(8) & 1
    blocks = (255 * bits).astype(np.uint8).reshape(num_frames, 2, 4)
    pixels = blocks.repeat(size // 2, axis=1).repeat(size // 4, axis=2)
    return np.repeat(pixels[..., None], 3, axis=-1)


def numbers_in(frames: np.ndarray) -> list[int]:
    """Return the numbers that frames of `numbered` show."""
    num_frames, height, width, _ = frames.shape
    blocks = frames.reshape(num_frames, 2, height // 2, 4, width // 4, 3).mean(axis=(2, 4, 5)) > 127
    return (blocks.reshape(num_frames, 8) << np.arange(8)).sum(axis=1).tolist()
