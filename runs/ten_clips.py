"""Write ten captioned clips of the sprite world at night, as data for training a LoRA.

    python runs/ten_clips.py FOLDER

Frames are darkened and tinted blue ("day for night"). The shipped model never saw this style in training, but its
small autoencoder can represent the colours.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from videocrafter.data.sprite_world.world import MINIATURE_WORLD, SpriteWorld
from videocrafter.media.video_file import write_video

NUM_CLIPS = 10
NUM_FRAMES = 24
MOONLIGHT = (0.35, 0.45, 0.80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    world = SpriteWorld(replace(MINIATURE_WORLD, num_frames=NUM_FRAMES, seed=10))
    for index in range(NUM_CLIPS):
        script = world.script(index)
        pixels = (world.render([script])[0].permute(0, 2, 3, 1).numpy() + 1) / 2
        frames = (by_night(pixels) * 255).round().astype(np.uint8)
        write_video(folder / f"clip-{index}.mp4", frames, playback_fps=script.fps)
        (folder / f"clip-{index}.txt").write_text(script.caption + "\n", encoding="utf-8")
    print(f"{folder}: {NUM_CLIPS} clips, each with its caption in a text file")


def by_night(pixels: np.ndarray) -> np.ndarray:
    """Darken daylight frames `[T, H, W, 3]` with values from 0 to 1 and tint them blue."""
    return np.clip(pixels * np.array(MOONLIGHT), 0, 1)


if __name__ == "__main__":
    main()
