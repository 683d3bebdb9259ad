"""Make a video of 48 frames with a model trained on 16.

Run `python examples/long_video.py FOLDER`. It writes long_video.mp4 and a sheet of its frames, long_video.png.
"""

import sys
from pathlib import Path
from typing import Any

from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import read_frames, write_video
from videocrafter.pipelines.clip import decoded_chunks
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.long_video import LongVideo


def main(folder: Path, **settings: Any) -> None:
    """Make the video; `settings` are arguments of the pipeline, such as `num_inference_steps`."""
    pipeline = load_pipeline("tiny-t2v")
    long = LongVideo(pipeline, window=16, overlap=8)
    prompt = "a ladybug bouncing over a green meadow"
    latents = long(prompt, num_frames=48, seeds=3, output_type="latent", **settings).frames[0]

    # Frames are decoded chunk by chunk as they are written, so even a very long video is never in memory as a whole.
    video = folder / "long_video.mp4"
    write_video(video, decoded_chunks(pipeline, latents), playback_fps=8, metadata={"prompt": prompt})
    sheet = contact_sheet([read_frames(video)], [f"{prompt}: 16 of 48 frames"], columns=16, scale=1)
    write_image(folder / "long_video.png", sheet)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
