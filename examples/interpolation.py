"""Interpolate: make a video that begins with one image and ends with another.

Run `python examples/interpolation.py FOLDER`. It writes interpolation.mp4 and a sheet, interpolation.png.
"""

import sys
from pathlib import Path
from typing import Any

from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.pipelines.interpolation import Interpolation
from videocrafter.pipelines.loading import load_pipeline


def main(folder: Path, **settings: Any) -> None:
    """Make the video; `settings` are arguments of the pipeline, such as `num_inference_steps`."""
    prompt = "a ladybug moving left over a green meadow"
    # Any two images work; read one from a file with videocrafter.media.image_file.read_image.
    images = load_pipeline("tiny-t2v")(prompt, seeds=3, **settings).frames[0][[0, -1]]

    between = Interpolation(load_pipeline("tiny-i2v"), *images)
    frames = between(prompt, num_frames=16, seeds=9, **settings).frames[0]

    write_video(folder / "interpolation.mp4", frames, playback_fps=8)
    sheet = contact_sheet([images, frames], ["the two images", "the video between them"], scale=1)
    write_image(folder / "interpolation.png", sheet)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
