"""`videocrafter generate`: a prompt, or an image and a prompt, becomes a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.generate_request import (
    GenerateOptions,
    check_options,
    clean_text,
    read_prompts,
    read_recording,
    repeat_recording,
)

_SETTINGS = "Settings (default: what the model recommends)"
_FILES = "Files"
_RUN = "Run"


def _option(*names: str, about: str, panel: str | None = None, metavar: str | None = None) -> typer.models.OptionInfo:
    return typer.Option(*names, help=about, rich_help_panel=panel, metavar=metavar, show_default=False)


Prompts = Annotated[list[str] | None, typer.Argument(metavar="PROMPT...", help="What to show.", show_default=False)]
Output = Annotated[
    Path,
    _option(
        "--output",
        "-o",
        metavar="OUT",
        about="OUT.mp4, OUT.gif, or a name without suffix for a folder of PNGs.",
    ),
]
PromptsFile = Annotated[
    Path | None,
    _option("--prompts", about="Text file with one prompt per line; # begins a comment.", panel=_FILES),
]
Picture = Annotated[
    Path | None, _option("--image", "-i", about="Picture whose content the video keeps.", panel=_FILES)
]
Repeat = Annotated[
    Path | None,
    _option(
        "--from",
        metavar="VIDEO",
        about="Repeat a video that videocrafter made; other options win.",
        panel=_FILES,
    ),
]
ContactSheet = Annotated[
    Path | None,
    _option("--contact-sheet", metavar="PNG", about="Also draw all frames on one picture.", panel=_FILES),
]
Overwrite = Annotated[bool, _option("--overwrite", about="Replace files that exist.", panel=_FILES)]
ImageScale = Annotated[
    float | None,
    _option("--image-scale", about="Weight of the image against the text; 0 ignores it.", panel=_SETTINGS),
]
Negative = Annotated[str | None, _option("--negative", about="What not to show.", panel=_SETTINGS)]
Frames = Annotated[int | None, _option("--frames", about="Frames per video.", panel=_SETTINGS)]
Height = Annotated[int | None, _option("--height", about="Pixels.", panel=_SETTINGS)]
Width = Annotated[int | None, _option("--width", about="Pixels.", panel=_SETTINGS)]
Fps = Annotated[
    float | None, _option("--fps", about="Motion speed: higher means less motion per frame.", panel=_SETTINGS)
]
PlaybackFps = Annotated[
    float | None, _option("--playback-fps", about="Frame rate of the file; default: --fps.", panel=_SETTINGS)
]
Steps = Annotated[int | None, _option("--steps", about="Denoising steps.", panel=_SETTINGS)]
Guidance = Annotated[
    float | None, _option("--guidance", about="How strictly to follow the prompt; 1 is off.", panel=_SETTINGS)
]
GuidanceRescale = Annotated[
    float | None, _option("--guidance-rescale", about="0 to 1, against over-exposure.", panel=_SETTINGS)
]
Eta = Annotated[float | None, _option("--eta", about="0 to 1, fresh noise in DDIM.", panel=_SETTINGS)]
Seed = Annotated[
    int | None,
    _option("--seed", about="Same seed, same video; default: random, and recorded.", panel=_SETTINGS),
]
Scheduler = Annotated[
    str | None, _option("--scheduler", about="Sampler: ddim, dpm++2m, unipc, euler …", panel=_SETTINGS)
]
Model = Annotated[
    str | None,
    _option(
        "--model",
        "-m",
        about="Name (see: videocrafter models) or pipeline folder; default: tiny.",
        panel=_RUN,
    ),
]
NumVideos = Annotated[
    int, _option("--num-videos", "-n", about="Videos per prompt, with seeds SEED, SEED + 1, …", panel=_RUN)
]
BatchSize = Annotated[
    int,
    _option("--batch-size", about="Videos computed together; more is faster and needs more memory.", panel=_RUN),
]
Device = Annotated[str, _option("--device", about="cpu, cuda, cuda:1, mps or auto (default).", panel=_RUN)]
Precision = Annotated[str | None, _option("--dtype", about="float32 (default), bfloat16 or float16.", panel=_RUN)]
Quiet = Annotated[bool, _option("--quiet", "-q", about="Print only the names of the files written.", panel=_RUN)]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("generate", no_args_is_help=True)(generate)


def generate(
    output: Output,
    prompt: Prompts = None,
    prompts: PromptsFile = None,
    image: Picture = None,
    from_: Repeat = None,
    contact_sheet: ContactSheet = None,
    overwrite: Overwrite = False,
    negative: Negative = None,
    frames: Frames = None,
    height: Height = None,
    width: Width = None,
    fps: Fps = None,
    playback_fps: PlaybackFps = None,
    steps: Steps = None,
    guidance: Guidance = None,
    guidance_rescale: GuidanceRescale = None,
    eta: Eta = None,
    image_scale: ImageScale = None,
    seed: Seed = None,
    scheduler: Scheduler = None,
    model: Model = None,
    num_videos: NumVideos = 1,
    batch_size: BatchSize = 1,
    device: Device = "auto",
    dtype: Precision = None,
    quiet: Quiet = False,
) -> None:
    """Make a video from each prompt; with --image, one that keeps what the picture shows.

    One video goes to OUT; several go to OUT-000.mp4, OUT-001.mp4 … in the order of the prompts. Beside each
    stands OUT.mp4.json with every setting, which is also in the file: --from OUT.mp4 makes the video again.
    """
    with bad_input():
        texts = [*(prompt or []), *(read_prompts(prompts) if prompts else ())]
        options = GenerateOptions(
            output=output,
            prompts=tuple(clean_text(text) for text in texts),
            negative_prompt=None if negative is None else clean_text(negative),
            image=image,
            image_scale=image_scale,
            num_frames=frames,
            height=height,
            width=width,
            fps=fps,
            playback_fps=playback_fps,
            num_inference_steps=steps,
            guidance_scale=guidance,
            guidance_rescale=guidance_rescale,
            eta=eta,
            seed=seed,
            scheduler=scheduler,
            model=model,
            dtype=dtype,
            device=device,
            num_videos=num_videos,
            batch_size=batch_size,
            overwrite=overwrite,
            quiet=quiet,
            contact_sheet=contact_sheet,
        )
        if from_ is not None:
            options = repeat_recording(options, read_recording(from_), from_)
        check_options(options)
    from videocrafter.cli.generate_run import run

    run(options)
