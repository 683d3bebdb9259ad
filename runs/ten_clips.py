"""Ten captioned clips of the sprite world by night: something to train a LoRA on when no clips are at hand.

    python runs/ten_clips.py FOLDER

Day for night, as filmmakers call it: what was lit by the sun, darkened and made blue. A look that the shipped
model never saw, in colours that its small autoencoder can show.
"""

import argparse
from pathlib import Path

import numpy as np

from videocrafter.data.sprite_world.world import SpriteWorld, SpriteWorldConfig
from videocrafter.media.video_file import write_video

NUM_CLIPS = 10
NUM_FRAMES = 24
SIZE = 64
MOONLIGHT = (0.35, 0.45, 0.80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    world = SpriteWorld(SpriteWorldConfig(height=SIZE, width=SIZE, num_frames=NUM_FRAMES, seed=10))
    for index in range(NUM_CLIPS):
        script = world.script(index)
        pixels = (world.render([script])[0].permute(0, 2, 3, 1).numpy() + 1) / 2
        frames = (by_night(pixels) * 255).round().astype(np.uint8)
        write_video(folder / f"clip-{index}.mp4", frames, playback_fps=script.fps)
        (folder / f"clip-{index}.txt").write_text(script.caption + "\n", encoding="utf-8")
    print(f"{folder}: {NUM_CLIPS} clips, each with its caption in a text file")


def by_night(pixels: np.ndarray) -> np.ndarray:
    """Frames `[T, H, W, 3]` in 0 … 1 of a sunny day, by the light of the moon."""
    return np.clip(pixels * np.array(MOONLIGHT), 0, 1)


if __name__ == "__main__":
    main()
