"""Options of `videocrafter generate`: names, help texts and help panels.

Each option belongs to a setting, the parameter of `command.generate` that receives it. Checks name settings, as the
pipelines do; `naming.py` turns these names into the options that the user typed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_INPUTS = "More inputs"
_FILES = "Files"
_VIDEO = "Size and length"
_SAMPLING = "Sampling"

OPTION_OF: dict[str, str] = {"overlap": "--window-overlap"}
"""Name of each setting's option: "--guidance" for "guidance_scale"."""


def option(
    *names: str, about: str, panel: str | None = None, metavar: str = "", setting: str | None = None
) -> typer.models.OptionInfo:
    """Describe an option; its setting is named like the option unless `setting` says otherwise.

    Options without a panel are the most important ones and come first in the help. A flag has no metavar.
    """
    OPTION_OF[setting or names[0].removeprefix("--").replace("-", "_")] = names[0]
    return typer.Option(*names, help=about, rich_help_panel=panel, metavar=metavar, show_default=False)


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="Description of the video, in quotes; one video for each prompt.",
        show_default=False,
    ),
]

# Main options
Output = Annotated[
    Path,
    option(
        "--output",
        "-o",
        metavar="OUT",
        about="Output file (.mp4, .webm or .gif), or a name without suffix for a folder of PNG files.",
    ),
]
Image = Annotated[
    Path | None,
    option(
        "--image",
        "-i",
        metavar="IMAGE",
        about="Image that guides the content of the video. A folder of images makes one video per image, paired"
        " with the prompts in the order of the file names.",
    ),
]
Model = Annotated[
    str | None,
    option(
        "--model",
        "-m",
        metavar="MODEL",
        about="Model name (see: videocrafter models), pipeline folder or official checkpoint file (default: tiny).",
    ),
]
NumVideos = Annotated[
    int,
    option("--num-videos", "-n", metavar="N", about="Videos per prompt, with seeds SEED, SEED + 1, … (default: 1)."),
]
Seed = Annotated[
    int | None,
    option(
        "--seed",
        metavar="N",
        about="Random seed. The same seed and settings make the same video (default: random, and recorded).",
    ),
]
NumFrames = Annotated[
    int | None,
    option(
        "--frames",
        setting="num_frames",
        metavar="N",
        about="Number of frames. More than in training are generated in overlapping windows.",
    ),
]
Fps = Annotated[
    float | None,
    option(
        "--fps",
        metavar="RATE",
        about="Motion speed: the frame rate at which the motion looks natural. Higher means less motion per frame.",
    ),
]
NumInferenceSteps = Annotated[
    int | None, option("--steps", setting="num_inference_steps", metavar="N", about="Number of sampling steps.")
]
GuidanceScale = Annotated[
    float | None,
    option(
        "--guidance",
        setting="guidance_scale",
        metavar="SCALE",
        about="How closely to follow the prompt. 1 turns guidance off.",
    ),
]
From = Annotated[
    Path | None,
    option(
        "--from",
        setting="repeated",
        metavar="VIDEO",
        about="Repeat a video made by videocrafter with its recorded settings. Other options override them.",
    ),
]

# More inputs
PromptsFile = Annotated[
    Path | None,
    option(
        "--prompts",
        setting="prompts_file",
        metavar="FILE",
        about="Text file with one prompt per line (# starts a comment), or a .csv, .tsv or .jsonl table with"
        " the columns prompt, negative_prompt, seed, fps and image. Image paths are relative to FILE, or"
        " to the --image folder.",
        panel=_INPUTS,
    ),
]
NegativePrompt = Annotated[
    str | None,
    option(
        "--negative",
        setting="negative_prompt",
        metavar="PROMPT",
        about="Description of what the video should not show.",
        panel=_INPUTS,
    ),
]
ImageFit = Annotated[
    str | None,
    option(
        "--fit",
        setting="image_fit",
        metavar="FIT",
        about="How to fit an image whose shape differs from the video's: stretch (default, as in training),"
        " crop or pad.",
        panel=_INPUTS,
    ),
]
ImageScale = Annotated[
    float | None,
    option(
        "--image-scale",
        metavar="SCALE",
        about="Weight of the image relative to the text. 0 ignores the image.",
        panel=_INPUTS,
    ),
]
ImageEnd = Annotated[
    Path | None,
    option(
        "--image-end",
        metavar="IMAGE",
        about="Last frame of the video; --image is then its first frame.",
        panel=_INPUTS,
    ),
]
Video = Annotated[
    Path | None, option("--video", metavar="VIDEO", about="Video to change as the prompt describes.", panel=_INPUTS)
]
Strength = Annotated[
    float | None,
    option(
        "--strength",
        metavar="SHARE",
        about="How much to change --video, above 0 and up to 1 (default: 0.6).",
        panel=_INPUTS,
    ),
]
Continued = Annotated[
    Path | None,
    option(
        "--continue",
        setting="continued",
        metavar="VIDEO",
        about="Video to extend; --frames counts the new frames.",
        panel=_INPUTS,
    ),
]

# Size and length
Height = Annotated[int | None, option("--height", metavar="PIXELS", about="Height of the video.", panel=_VIDEO)]
Width = Annotated[int | None, option("--width", metavar="PIXELS", about="Width of the video.", panel=_VIDEO)]
Loop = Annotated[bool | None, option("--loop", about="Make a seamless loop.", panel=_VIDEO)]
NoLoop = Annotated[bool, typer.Option("--no-loop", hidden=True)]
PlaybackFps = Annotated[
    float | None,
    option(
        "--playback-fps",
        metavar="RATE",
        about="Frame rate of the output file (default: that of the input video, otherwise --fps).",
        panel=_VIDEO,
    ),
]
Window = Annotated[
    int | None,
    option(
        "--window",
        metavar="N",
        about="Frames that the model processes at once (default: as many as in training).",
        panel=_VIDEO,
    ),
]
WindowOverlap = Annotated[
    int | None,
    option(
        "--window-overlap",
        metavar="N",
        about="Frames that neighbouring windows share (default: half a window).",
        panel=_VIDEO,
    ),
]

# Files
Codec = Annotated[
    str | None,
    option(
        "--codec",
        metavar="NAME",
        about="Codec of the output file: h264 (default) or av1 for .mp4, vp9 (default) or av1 for .webm.",
        panel=_FILES,
    ),
]
ContactSheet = Annotated[
    Path | None,
    option(
        "--contact-sheet",
        metavar="PNG",
        about="Also write one image with the frames of all videos, at most 32 of each.",
        panel=_FILES,
    ),
]
Preview = Annotated[
    Path | None,
    option(
        "--preview", metavar="PNG", about="While sampling, write a preview of the video to this image.", panel=_FILES
    ),
]
PreviewEvery = Annotated[
    int, option("--preview-every", metavar="N", about="Update --preview every N steps (default: 1).", panel=_FILES)
]
Overwrite = Annotated[bool, option("--overwrite", about="Replace existing files.", panel=_FILES)]
AbsolutePaths = Annotated[
    bool,
    option(
        "--absolute-paths",
        about="Record absolute paths of input files and models, so that --from finds them after the video was"
        " moved. By default, paths are relative to the video.",
        panel=_FILES,
    ),
]
Quiet = Annotated[bool, option("--quiet", "-q", about="Print only the names of the written files.", panel=_FILES)]

# Sampling
Preset = Annotated[
    str | None,
    option(
        "--preset",
        metavar="NAME",
        about="Sampler, steps and guidance under one word: quality (for a student, its teacher), fast or"
        " draft. Options that are given as well take precedence.",
        panel=_SAMPLING,
    ),
]
Scheduler = Annotated[
    str | None,
    option(
        "--scheduler",
        metavar="NAME",
        about="Sampler: ddim, ddim-official, dpm++2m, dpm++2m-lu, dpm++2m-sde, unipc, euler, euler-a, deis,"
        " heun, lcm, few-step or ddpm (default: the model's).",
        panel=_SAMPLING,
    ),
]
Spacing = Annotated[
    str | None,
    option(
        "--spacing",
        metavar="NAME",
        about="How steps are spaced over the training timesteps: leading, linspace, trailing, or legacy as in"
        " the official code (default: the scheduler's). Models that predict noise were not trained for"
        " trailing.",
        panel=_SAMPLING,
    ),
]
ZeroTerminalSnr = Annotated[
    bool | None,
    option(
        "--zero-terminal-snr",
        about="Start sampling from pure noise, even if the model was not trained on it.",
        panel=_SAMPLING,
    ),
]
NoZeroTerminalSnr = Annotated[bool, typer.Option("--no-zero-terminal-snr", hidden=True)]
GuidanceRescale = Annotated[
    float | None,
    option(
        "--guidance-rescale",
        metavar="SHARE",
        about="Reduce over-exposure at high guidance scales, from 0 (off) to 1.",
        panel=_SAMPLING,
    ),
]
GuidanceInterval = Annotated[
    tuple[float, float] | None,
    option(
        "--guidance-interval",
        metavar="START END",
        about="Apply guidance only within this share of the steps, such as 0.1 0.8. The other steps take about"
        " half the time.",
        panel=_SAMPLING,
    ),
]
GuidanceLogSnr = Annotated[
    tuple[float, float] | None,
    option(
        "--guidance-log-snr",
        metavar="LOW HIGH",
        about="Apply guidance only at these log signal-to-noise ratios, such as -8 2, whatever the scheduler and the"
        " number of steps. Noise has about -10, clean latents about 10.",
        panel=_SAMPLING,
    ),
]
ImageGuidanceScale = Annotated[
    float | None,
    option(
        "--image-guidance",
        setting="image_guidance_scale",
        metavar="SCALE",
        about="Separate guidance scale for the image; --guidance then applies to the text alone (default:"
        " --guidance applies to both).",
        panel=_SAMPLING,
    ),
]
TemporalGuidanceScale = Annotated[
    float | None,
    option(
        "--temporal-guidance",
        setting="temporal_guidance_scale",
        metavar="SCALE",
        about="Favour motion and temporal consistency; try 0.5 to 1. Adds one network call per step (default:"
        " 0, off).",
        panel=_SAMPLING,
    ),
]
Eta = Annotated[
    float | None,
    option(
        "--eta", metavar="SHARE", about="Fresh noise per DDIM step, from 0 (deterministic) to 1.", panel=_SAMPLING
    ),
]
