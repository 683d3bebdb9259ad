"""Sample videos that the pipeline makes during training, always from the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videocrafter.data.cutting import CuttingConfig
from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.models.autoencoder import decode_video
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.video.clip_encoding import EncodedClips
from videocrafter.training.video.task_config import SampleConfig


def write_clip_samples(
    pipeline: TextToVideoPipeline | ImageToVideoPipeline,
    clips: Sequence[EncodedClips],
    folder: Path,
    samples: SampleConfig,
    cutting: CuttingConfig,
) -> None:
    """Write `sample-00.mp4`, … and `samples.png`, a contact sheet of them, into an existing folder.

    Videos are made one at a time, because training leaves little memory.

    Args:
        clips: one in each. They supply the images and, if `samples` has no prompts, the prompts and their fps.
    """
    own = samples.prompts
    prompts = list(own) or [clip.captions[0] for clip in clips[: samples.count]]
    videos: list[np.ndarray] = []
    for index, prompt in enumerate(prompts):
        clip = clips[index % len(clips)]
        fps = pipeline.generation_defaults.fps if own or clip.num_frames == 1 else float(clip.fps[0])
        settings: dict[str, Any] = {
            "num_frames": max(cutting.sampling.lengths),
            "height": cutting.height,
            "width": cutting.width,
            "fps": fps,
            "num_inference_steps": samples.num_inference_steps,
            "guidance_scale": samples.guidance_scale,
            "seeds": index,
            "output_type": "uint8",
        }
        if isinstance(pipeline, ImageToVideoPipeline):
            video = pipeline(_picture(pipeline, clip), prompt, **settings).frames[0]
        else:
            video = pipeline(prompt, **settings).frames[0]
        write_video(folder / f"sample-{index:02d}.mp4", video, playback_fps=fps, overwrite=True)
        videos.append(video)
    write_image(folder / "samples.png", contact_sheet(videos, prompts), overwrite=True)


@torch.no_grad()
def _picture(pipeline: ImageToVideoPipeline, clip: EncodedClips) -> Tensor:
    """Return the first frame of a clip as a user would pass it, [3, H, W] from 0 to 1."""
    first = clip.latents.mean[:, :, :1]
    return (decode_video(pipeline.vae, first)[0, 0].float().clamp(-1, 1).cpu() + 1) / 2
