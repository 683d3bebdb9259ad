"""Ten captioned clips of the sprite world as an old film: something to train a LoRA on when no clips are at hand.

    python runs/ten_clips.py FOLDER

Brown, high in contrast, dark at the borders, with a little flicker and dust: a look that the shipped model never saw.
"""

import argparse
from pathlib import Path

import numpy as np

from videocrafter.data.sources.sprite_world import SpriteWorld, SpriteWorldConfig
from videocrafter.media.video_file import write_video

NUM_CLIPS = 10
NUM_FRAMES = 24
SIZE = 64
LUMINANCE = (0.30, 0.59, 0.11)
BROWN = (1.0, 0.84, 0.60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    world = SpriteWorld(SpriteWorldConfig(height=SIZE, width=SIZE, num_frames=NUM_FRAMES, seed=10))
    for index in range(NUM_CLIPS):
        script = world.script(index)
        pixels = (world.render([script])[0].permute(0, 2, 3, 1).numpy() + 1) / 2
        frames = (old_film(pixels, np.random.default_rng(index)) * 255).round().astype(np.uint8)
        write_video(folder / f"clip-{index}.mp4", frames, playback_fps=script.fps)
        (folder / f"clip-{index}.txt").write_text(script.caption + "\n", encoding="utf-8")
    print(f"{folder}: {NUM_CLIPS} clips, each with its caption in a text file")


def old_film(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames `[T, H, W, 3]` in 0 … 1, aged by a hundred years."""
    grey = np.clip((pixels @ np.array(LUMINANCE) - 0.5) * 1.35 + 0.5, 0, 1)
    grey *= rng.uniform(0.93, 1.0, (len(grey), 1, 1))
    for frame in grey:
        for y, x in rng.integers(0, SIZE, (3, 2)):
            frame[y, x : x + 2] = 0.95
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    light = 1 - 0.45 * np.clip(rows**2 + columns**2 - 0.35, 0, 1)
    return np.clip(grey[..., None] * light[None, ..., None] * np.array(BROWN) + (0.06, 0.03, 0.0), 0, 1)


if __name__ == "__main__":
    main()
