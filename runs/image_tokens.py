"""Compare image conditions side by side (paper, figure 5): all patch tokens against the global token alone.

    videocrafter train tiny-i2v-128 --output outputs/patches
    videocrafter train tiny-i2v-128 --output outputs/global --set "stages.*.task.image_tokens=global"
    python runs/image_tokens.py outputs/tokens "all patch tokens=outputs/patches" "the global token=outputs/global"

Writes input images of the sprite world to OUTPUT/inputs and the page and contact sheets of `videocrafter compare` to
OUTPUT/compared.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from videocrafter.data.sprite_world.world import SpriteWorld
from videocrafter.media.image_file import write_image
from videocrafter.training.recipes.miniature_128 import WORLD_128

SHOWN = (
    ("ghost", "pink wall", -20, "it is moving left"),
    ("panda", "green meadow", 25, "it is moving right"),
    ("mushroom", "sandy beach", 30, "it is flying up"),
    ("car", "snowy field", -25, "it is moving left"),
    ("butterfly", "ocean", 0, "it is moving right"),
    ("rainbow", "forest", 20, "it is getting smaller"),
)
"""Subject, scene and angle in degrees of an input image, and the prompt."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the inputs and the comparison")
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER", help="image-to-video models")
    given = parser.parse_args()
    prompts = write_inputs(given.output / "inputs")
    arguments = [*given.models, "--prompts", str(prompts), "--seed", "1", "-o", str(given.output / "compared")]
    subprocess.run([sys.executable, "-m", "videocrafter", "compare", *arguments], check=True)


def write_inputs(folder: Path) -> Path:
    """Write the images and the file of prompts; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    world = SpriteWorld(replace(WORLD_128, num_frames=1, split="all"))
    lines = ["prompt,image"]
    for number, (subject, scene, angle, prompt) in enumerate(SHOWN):
        script = replace(
            world.script(0),
            subject=subject,
            scene=scene,
            motion="still",
            middle_x=0.0,
            middle_y=0.0,
            angle=float(angle),
            variant=number % 3,
        )
        picture = (world.render([script], 1)[0, 0].permute(1, 2, 0).numpy() + 1) / 2
        write_image(folder / f"{subject}.png", picture, overwrite=True)
        lines.append(f"{prompt},{subject}.png")
    path = folder / "prompts.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
