"""Change a clip with another prompt, a little and a lot.

Run `python examples/video_to_video.py FOLDER`. It writes one video for each strength and a sheet, video_to_video.png.
"""

import sys
from pathlib import Path
from typing import Any

from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.video_to_video import VideoToVideo

STRENGTHS = (0.2, 0.4, 0.6, 0.8)


def main(folder: Path, **settings: Any) -> None:
    """Make the videos; `settings` are arguments of the pipeline, such as `num_inference_steps`."""
    pipeline = load_pipeline("tiny-t2v")
    # Any clip works; read one from a file with videocrafter.media.video_file.read_frames.
    clip = pipeline("a ladybug moving left over a green meadow", seeds=3, **settings).frames[0]
    videos, captions = [clip], ["the clip: a ladybug moving left over a green meadow"]

    prompt = "a pumpkin moving left over a sandy beach"
    for strength in STRENGTHS:
        frames = VideoToVideo(pipeline, clip, strength)(prompt, seeds=3, **settings).frames[0]
        write_video(folder / f"strength_{strength}.mp4", frames, playback_fps=8)
        videos.append(frames)
        captions.append(f"strength {strength}: {prompt}")
    write_image(folder / "video_to_video.png", contact_sheet(videos, captions, scale=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
