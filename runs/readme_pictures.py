"""Make images of README and docs: `python runs/readme_pictures.py` writes docs/images/ and examples/ladybug.png.

The videos are made by the shipped models; the input images are frames of the sprite world.
"""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from world_picture import world_picture

from videocrafter.data.sprite_world.world import MINIATURE_WORLD, SUBJECTS, SpriteWorld
from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import resolve_model

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
EXAMPLE = ROOT / "examples" / "ladybug.png"
SIDE = 256
"""Pixels of the enlarged videos, at most."""
PROMPTS = (
    "a rocket flying up over a green meadow",
    "there is a panda circling on a green meadow",
    "a penguin moving left quickly on a snowy field",
    "a car moving left in front of a forest",
    "a cat getting bigger at a sandy beach",
    "a mushroom moving left on a sandy beach",
)
MOVED = (("ladybug", "brick wall", "it is flying left"), ("rainbow", "ocean", "it is moving left"))
"""Subject and scene of an input image, and what it is to do."""
SPEED_PROMPT = "a car moving right over a blue sky"


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    paint = load_pipeline(resolve_model("tiny-t2v-fast", "t2v"), expect=TextToVideoPipeline)
    move = load_pipeline(resolve_model("tiny", "i2v"), expect=ImageToVideoPipeline)
    for number, video in enumerate(paint(list(PROMPTS), seeds=1).frames, start=1):
        save(f"t2v-{number}", video, fps=8)
    for fps in (8, 24):
        save(f"speed-{fps}", paint(SPEED_PROMPT, fps=fps, seeds=1).frames[0], fps=8)
    for number, (subject, scene, motion) in enumerate(MOVED, start=1):
        image = world_picture(subject, scene, side=SIDE, middle_x=0.3)
        write_image(IMAGES / f"i2v-{number}-input.png", image, overwrite=True)
        if number == 1:
            write_image(EXAMPLE, image, overwrite=True)
        save(f"i2v-{number}", move(image, motion, seeds=1).frames[0], fps=8)

    write_image(IMAGES / "subjects.png", one_picture_per_subject(paint), overwrite=True)


def one_picture_per_subject(paint: TextToVideoPipeline) -> np.ndarray:
    """Return the middle frames of a video per subject, in random order and without captions, for naming by eye."""
    world, prompts, number = SpriteWorld(replace(MINIATURE_WORLD, split="held_out", seed=2024)), {}, 0
    while len(prompts) < len(SUBJECTS):
        script, number = world.script(number), number + 1
        if script.motion != "spinning":
            prompts.setdefault(script.subject, script.caption)
    shuffled = list(prompts.values())
    random.Random(5).shuffle(shuffled)
    middles = np.stack([frames[len(frames) // 2] for frames in paint(shuffled, seeds=1).frames])
    return contact_sheet(list(middles.reshape(4, 6, *middles.shape[1:])), [""] * 4, columns=6, scale=1)


def save(name: str, video: np.ndarray, fps: float) -> None:
    write_video(IMAGES / f"{name}.gif", enlarged(video), playback_fps=fps, overwrite=True)


def enlarged(video: np.ndarray) -> np.ndarray:
    scale = SIDE // video.shape[1]
    return video.repeat(scale, axis=1).repeat(scale, axis=2)


if __name__ == "__main__":
    main()
