"""What is written into and beside a video: every setting that made it, so that `--from` can make it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videocrafter.cli.generate.inputs import Inputs
from videocrafter.cli.generate.prompt_files import PromptRow
from videocrafter.cli.generate.request import GenerateOptions

if TYPE_CHECKING:
    from videocrafter.cli.generate.way import Pipeline, Way
    from videocrafter.pipelines.settings import VideoRequest


def record_of_run(
    options: GenerateOptions, pipeline: Pipeline, way: Way, request: VideoRequest, inputs: Inputs
) -> dict[str, Any]:
    """What all videos of a run have in common."""
    from videocrafter.pipelines.versions import versions

    model_path = Path(options.model_name)
    recording: dict[str, Any] = {
        "task": "i2v" if pipeline.takes_image else "t2v",
        "model": str(model_path.absolute()) if model_path.exists() else options.model_name,
        "num_frames": request.num_frames,
        "height": request.height,
        "width": request.width,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "guidance_rescale": request.guidance_rescale,
        "guidance_interval": list(request.guidance_interval),
        "temporal_guidance_scale": request.temporal_guidance_scale,
        "eta": request.eta,
        "scheduler": options.scheduler,
        "spacing": options.spacing,
        "zero_terminal_snr": options.zero_terminal_snr,
        "loras": [str(replace(lora, path=lora.path.absolute())) for lora in options.loras],
        "scheduler_class": type(pipeline.scheduler).__name__,
        "device": str(pipeline.device),
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "versions": versions(),
    }
    if pipeline.takes_image:
        given = options.image_scale
        recording["image_scale"] = pipeline.generation_defaults.image_scale if given is None else given
        recording["image_guidance_scale"] = request.image_guidance_scale
        recording["image_fit"] = request.image_fit
    if way is not pipeline:
        recording |= _record_of_way(options, way)
    for key in ("image_end", "video", "continued"):
        recording |= _record_of_file(key, getattr(options, key), inputs)
    return recording


def record_of_video(
    batch: VideoRequest, index: int, row: PromptRow, inputs: Inputs, playback_fps: float
) -> dict[str, Any]:
    """What one video of a run has of its own."""
    return {
        "prompt": batch.prompts[index],
        "seed": batch.seeds[index],
        "negative_prompt": batch.negative_prompts[index],
        "fps": batch.fps[index],
        "playback_fps": playback_fps,
        **_record_of_file("image", row.image, inputs),
    }


def _record_of_way(options: GenerateOptions, way: Any) -> dict[str, Any]:
    """What windows there were, and what else the way of making the video was told."""
    settings = {"window": getattr(way, "window", None), "window_overlap": getattr(way, "overlap", None)}
    settings |= {"strength": getattr(way, "strength", None), "loop": options.loop}
    return {key: value for key, value in settings.items() if value is not None}


def _record_of_file(key: str, path: Path | None, inputs: Inputs) -> dict[str, str]:
    if path is None:
        return {}
    recorded = {key: str(path.absolute())}
    return recorded | ({f"{key}_sha256": inputs.sha256[path]} if path in inputs.sha256 else {})
