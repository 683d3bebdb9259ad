"""The options of `videocrafter generate`: names, help, and under which heading they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_SETTINGS = "Settings (default: what the model recommends)"
_SAMPLING = "Sampling, in detail"
_PICTURES = "Pictures and videos to start from"
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

# Pictures and videos to start from
Picture = Annotated[
    Path | None,
    _option(
        "--image",
        "-i",
        metavar="PICTURE|FOLDER",
        about="Picture whose content the video keeps; of a folder, one video for each picture, paired with the"
        " prompts by name.",
        panel=_PICTURES,
    ),
]
Fit = Annotated[
    str | None,
    _option(
        "--fit",
        about="For a picture of another shape than the video: stretch (default, as the model was trained), crop"
        " or pad.",
        panel=_PICTURES,
    ),
]
ImageEnd = Annotated[
    Path | None,
    _option("--image-end", metavar="PICTURE", about="End with this picture; --image begins.", panel=_PICTURES),
]
Video = Annotated[
    Path | None,
    _option("--video", metavar="VIDEO", about="Make this video anew as the prompt says.", panel=_PICTURES),
]
Strength = Annotated[
    float | None,
    _option("--strength", about="How much of --video to change: above 0, up to 1; default: 0.6.", panel=_PICTURES),
]
Continued = Annotated[
    Path | None,
    _option(
        "--continue", metavar="VIDEO", about="Go on from the end of this video; --frames are new.", panel=_PICTURES
    ),
]

# Files
PromptsFile = Annotated[
    Path | None,
    _option(
        "--prompts",
        metavar="FILE",
        about="Text with one prompt per line (# begins a comment), or .csv, .tsv or .jsonl with the columns prompt,"
        " negative_prompt, seed, fps, image; pictures are named relative to FILE, or to the folder --image.",
        panel=_FILES,
    ),
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
Preview = Annotated[
    Path | None,
    _option("--preview", metavar="PNG", about="While sampling, draw what is in the making there.", panel=_FILES),
]
PreviewEvery = Annotated[
    int, _option("--preview-every", metavar="N", about="Draw the preview every N steps; default: 1.", panel=_FILES)
]
Overwrite = Annotated[bool, _option("--overwrite", about="Replace files that exist.", panel=_FILES)]

# Settings
ImageScale = Annotated[
    float | None,
    _option("--image-scale", about="Weight of the image against the text; 0 ignores it.", panel=_SETTINGS),
]
Negative = Annotated[str | None, _option("--negative", about="What not to show.", panel=_SETTINGS)]
Frames = Annotated[
    int | None,
    _option(
        "--frames",
        about="Frames per video; more than the model was trained for are made in windows.",
        panel=_SETTINGS,
    ),
]
Loop = Annotated[
    bool | None, _option("--loop/--no-loop", about="Let the end lead into the beginning.", panel=_SETTINGS)
]
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
Seed = Annotated[
    int | None,
    _option("--seed", about="Same seed, same video; default: random, and recorded.", panel=_SETTINGS),
]

# Sampling, in detail
Scheduler = Annotated[
    str | None,
    _option(
        "--scheduler",
        about="ddim, ddim-official, dpm++2m, dpm++2m-lu, dpm++2m-sde, unipc, euler, euler-a, deis, heun, lcm, ddpm.",
        panel=_SAMPLING,
    ),
]
Spacing = Annotated[
    str | None,
    _option(
        "--spacing",
        about="Steps visited: legacy (the official code's), leading, linspace, or trailing (off-training for models"
        " that predict noise).",
        panel=_SAMPLING,
    ),
]
ZeroTerminalSnr = Annotated[
    bool | None,
    _option(
        "--zero-terminal-snr/--no-zero-terminal-snr",
        about="Start from pure noise; off-training for models that did not learn it.",
        panel=_SAMPLING,
    ),
]
GuidanceRescale = Annotated[
    float | None, _option("--guidance-rescale", about="0 to 1, against over-exposure.", panel=_SAMPLING)
]
GuidanceInterval = Annotated[
    tuple[float, float] | None,
    _option(
        "--guidance-interval",
        metavar="START END",
        about="Share of the steps that are guided, such as 0.1 0.8; the others take half the time.",
        panel=_SAMPLING,
    ),
]
ImageGuidance = Annotated[
    float | None,
    _option(
        "--image-guidance",
        about="Guidance towards the picture apart from --guidance towards the text:"
        " none + A (picture - none) + B (both - picture); default: one for both.",
        panel=_SAMPLING,
    ),
]
TemporalGuidance = Annotated[
    float | None,
    _option(
        "--temporal-guidance",
        about="Away from what each frame alone would be, towards motion; 0 (default) is off, try 0.5 to 1.",
        panel=_SAMPLING,
    ),
]
Eta = Annotated[float | None, _option("--eta", about="0 to 1, fresh noise in DDIM.", panel=_SAMPLING)]
Window = Annotated[
    int | None,
    _option(
        "--window", about="Frames the model sees at once; default: as many as it was trained for.", panel=_SAMPLING
    ),
]
WindowOverlap = Annotated[
    int | None, _option("--window-overlap", about="Frames that windows share; default: half.", panel=_SAMPLING)
]

# Run
Model = Annotated[
    str | None,
    _option(
        "--model",
        "-m",
        about="Name (see: videocrafter models), pipeline folder, or official checkpoint; default: tiny.",
        panel=_RUN,
    ),
]
Lora = Annotated[
    list[str] | None,
    _option(
        "--lora",
        metavar="PATH[:WEIGHT]",
        about="LoRA file or folder to add, with its weight (default: 1); may be given several times.",
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
IgnoreMemory = Annotated[
    bool, _option("--ignore-memory", about="Try even if the memory seems too small.", panel=_RUN)
]
Quiet = Annotated[bool, _option("--quiet", "-q", about="Print only the names of the files written.", panel=_RUN)]
