"""Make a seamless loop.

Run `python examples/loop.py FOLDER`. It writes loop.gif and a sheet of its frames, loop.png.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.looping import LoopedVideo


def main(folder: Path, **settings: Any) -> None:
    """Make the video; `settings` are arguments of the pipeline, such as `num_inference_steps`."""
    loop = LoopedVideo(load_pipeline("tiny-t2v"))
    frames = loop("a panda moving in a circle on a green meadow", num_frames=16, seeds=3, **settings).frames[0]

    write_video(folder / "loop.gif", frames, playback_fps=8)
    from_middle = np.concatenate([frames[8:], frames[:8]])
    sheet = contact_sheet([from_middle], ["frames 8 to 15, then 0 to 7: the seam is in the middle"], scale=1)
    write_image(folder / "loop.png", sheet)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
