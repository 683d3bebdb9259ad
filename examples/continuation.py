"""Continue a clip: a rocket flies up, then the model makes it fly down again.

Run `python examples/continuation.py FOLDER`. It writes continuation.mp4 and a sheet of its frames, continuation.png.
"""

import sys
from pathlib import Path
from typing import Any

from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.pipelines.continuation import Continuation
from videocrafter.pipelines.loading import load_pipeline


def main(folder: Path, **settings: Any) -> None:
    """Make the video; `settings` are arguments of the pipeline, such as `num_inference_steps`."""
    pipeline = load_pipeline("tiny-t2v")
    # Any clip works; read one from a file with videocrafter.media.video_file.read_frames.
    clip = pipeline("a rocket flying up over a blue sky", seeds=3, **settings).frames[0]

    # The new motion starts from the last frame, so one frame of context is enough.
    continuation = Continuation(pipeline, clip, context=1)
    frames = continuation("a rocket flying down over a blue sky", num_frames=15, seeds=3, **settings).frames[0]

    write_video(folder / "continuation.mp4", frames, playback_fps=8)
    write_image(folder / "continuation.png", contact_sheet([frames], ["16 frames up, 15 new frames down"], scale=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
