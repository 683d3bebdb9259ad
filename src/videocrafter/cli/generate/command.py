"""The command `videocrafter generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.generate import hardware_options as hardware
from videocrafter.cli.generate import options as option
from videocrafter.cli.generate.naming import naming_options
from videocrafter.cli.generate.quoting import check_quotes, clean_text

if TYPE_CHECKING:
    from videocrafter.generation.request import GenerateOptions


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("generate", no_args_is_help=True)(generate)


def generate(
    output: option.Output,
    prompts: option.Prompts = None,
    image: option.Image = None,
    model: option.Model = None,
    num_videos: option.NumVideos = 1,
    seed: option.Seed = None,
    num_frames: option.NumFrames = None,
    fps: option.Fps = None,
    num_inference_steps: option.NumInferenceSteps = None,
    guidance_scale: option.GuidanceScale = None,
    repeated: option.From = None,
    prompts_file: option.PromptsFile = None,
    negative_prompt: option.NegativePrompt = None,
    image_fit: option.ImageFit = None,
    image_scale: option.ImageScale = None,
    image_end: option.ImageEnd = None,
    video: option.Video = None,
    strength: option.Strength = None,
    continued: option.Continued = None,
    height: option.Height = None,
    width: option.Width = None,
    loop: option.Loop = None,
    no_loop: option.NoLoop = False,
    playback_fps: option.PlaybackFps = None,
    window: option.Window = None,
    window_overlap: option.WindowOverlap = None,
    codec: option.Codec = None,
    contact_sheet: option.ContactSheet = None,
    preview: option.Preview = None,
    preview_every: option.PreviewEvery = 1,
    overwrite: option.Overwrite = False,
    absolute_paths: option.AbsolutePaths = False,
    quiet: option.Quiet = False,
    preset: option.Preset = None,
    scheduler: option.Scheduler = None,
    spacing: option.Spacing = None,
    zero_terminal_snr: option.ZeroTerminalSnr = None,
    no_zero_terminal_snr: option.NoZeroTerminalSnr = False,
    guidance_rescale: option.GuidanceRescale = None,
    guidance_interval: option.GuidanceInterval = None,
    guidance_log_snr: option.GuidanceLogSnr = None,
    image_guidance_scale: option.ImageGuidanceScale = None,
    temporal_guidance_scale: option.TemporalGuidanceScale = None,
    eta: option.Eta = None,
    lora: hardware.Lora = None,
    batch_size: hardware.BatchSize = 1,
    device: hardware.Device = "auto",
    dtype: hardware.Dtype = None,
    ignore_memory: hardware.IgnoreMemory = False,
    low_memory: hardware.LowMemory = False,
    devices: hardware.Devices = 1,
    split: hardware.Split = "videos",
) -> None:
    """Generate a video from each prompt, or from an image and a prompt.

    One video is written to OUT, several to OUT-000.mp4, OUT-001.mp4, … in the order of the prompts.

    All settings are stored in the video and in OUT.mp4.json next to it. Use --from OUT.mp4 to repeat it.
    """
    # Parameters have the names of the settings, so that all of them travel in one step.
    arguments = locals()
    from videocrafter.generation.loras import parse_lora_option
    from videocrafter.generation.request import GenerateOptions

    options = GenerateOptions.from_arguments(arguments)
    with bad_input(), naming_options():
        check_quotes(prompts or [])
        options = replace(
            options,
            loop=False if no_loop else loop,
            zero_terminal_snr=False if no_zero_terminal_snr else zero_terminal_snr,
            negative_prompt=None if negative_prompt is None else clean_text(negative_prompt),
            loras=tuple(parse_lora_option(clean_text(text)) for text in lora or ()),
        )
        options = _resolve(options, prompts or [], prompts_file, repeated)
    from videocrafter.cli.generate.devices import check_before_launch, launch, needs_launch

    if needs_launch(options):
        check_before_launch(options)
        raise typer.Exit(launch(options))
    from videocrafter.cli.generate.run import run

    run(options)


def _resolve(
    options: GenerateOptions, prompts: Sequence[str], prompts_file: Path | None, repeated: Path | None
) -> GenerateOptions:
    """Add the prompts with their images and the settings of a recording, then check the result."""
    from videocrafter.cli.generate.image_pairing import pair_with_images
    from videocrafter.cli.generate.prompt_files import PromptFile, read_prompt_file
    from videocrafter.generation.recording import read_recording, repeat_recording
    from videocrafter.generation.request import PromptRow, check_options

    file = PromptFile(rows=()) if prompts_file is None else read_prompt_file(prompts_file)
    rows = [*(PromptRow(prompt=clean_text(text)) for text in prompts), *file.rows]
    sizes: dict[str, Any] = {name: value for name, value in file.sizes.items() if getattr(options, name) is None}
    options = replace(options, rows=tuple(rows), **sizes)
    if repeated is not None:
        if options.preset is not None:
            raise ValueError(
                f"preset {options.preset} cannot be combined with a recording, which has its own settings; give the"
                " settings that are to differ, such as num_inference_steps"
            )
        options = repeat_recording(options, read_recording(repeated), repeated)
    options = replace(options, rows=pair_with_images(options.rows, options.image, prompts_file))
    check_options(options)
    return options
