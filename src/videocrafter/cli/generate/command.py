"""`videocrafter generate`: a prompt, or an image and a prompt, becomes a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.generate import options as option
from videocrafter.cli.generate.loras import parse_lora
from videocrafter.cli.generate.picture_pairing import pair_with_pictures
from videocrafter.cli.generate.prompt_files import PromptFile, PromptRow, read_prompt_file
from videocrafter.cli.generate.request import (
    GenerateOptions,
    check_options,
    clean_text,
    read_recording,
    repeat_recording,
)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("generate", no_args_is_help=True)(generate)


def generate(
    output: option.Output,
    prompt: option.Prompts = None,
    image: option.Picture = None,
    fit: option.Fit = None,
    image_end: option.ImageEnd = None,
    video: option.Video = None,
    strength: option.Strength = None,
    continued: option.Continued = None,
    prompts: option.PromptsFile = None,
    from_: option.Repeat = None,
    contact_sheet: option.ContactSheet = None,
    preview: option.Preview = None,
    preview_every: option.PreviewEvery = 1,
    overwrite: option.Overwrite = False,
    negative: option.Negative = None,
    frames: option.Frames = None,
    loop: option.Loop = None,
    height: option.Height = None,
    width: option.Width = None,
    fps: option.Fps = None,
    playback_fps: option.PlaybackFps = None,
    steps: option.Steps = None,
    guidance: option.Guidance = None,
    image_scale: option.ImageScale = None,
    seed: option.Seed = None,
    scheduler: option.Scheduler = None,
    spacing: option.Spacing = None,
    zero_terminal_snr: option.ZeroTerminalSnr = None,
    guidance_rescale: option.GuidanceRescale = None,
    guidance_interval: option.GuidanceInterval = None,
    image_guidance: option.ImageGuidance = None,
    temporal_guidance: option.TemporalGuidance = None,
    eta: option.Eta = None,
    window: option.Window = None,
    window_overlap: option.WindowOverlap = None,
    model: option.Model = None,
    lora: option.Lora = None,
    num_videos: option.NumVideos = 1,
    batch_size: option.BatchSize = 1,
    device: option.Device = "auto",
    dtype: option.Precision = None,
    ignore_memory: option.IgnoreMemory = False,
    quiet: option.Quiet = False,
) -> None:
    """Make a video from each prompt; with --image, one that keeps what the picture shows.

    One video goes to OUT; several go to OUT-000.mp4, OUT-001.mp4 … in the order of the prompts. Beside each
    stands OUT.mp4.json with every setting, which is also in the file: --from OUT.mp4 makes the video again.
    """
    with bad_input():
        options = GenerateOptions(
            output=output,
            negative_prompt=None if negative is None else clean_text(negative),
            image=image,
            image_fit=fit,
            image_scale=image_scale,
            image_guidance_scale=image_guidance,
            image_end=image_end,
            video=video,
            strength=strength,
            continued=continued,
            loop=loop,
            window=window,
            window_overlap=window_overlap,
            num_frames=frames,
            height=height,
            width=width,
            fps=fps,
            playback_fps=playback_fps,
            num_inference_steps=steps,
            guidance_scale=guidance,
            guidance_rescale=guidance_rescale,
            guidance_interval=guidance_interval,
            temporal_guidance_scale=temporal_guidance,
            eta=eta,
            seed=seed,
            scheduler=scheduler,
            spacing=spacing,
            zero_terminal_snr=zero_terminal_snr,
            loras=tuple(parse_lora(clean_text(text)) for text in lora or ()),
            model=model,
            dtype=dtype,
            device=device,
            num_videos=num_videos,
            batch_size=batch_size,
            overwrite=overwrite,
            quiet=quiet,
            ignore_memory=ignore_memory,
            contact_sheet=contact_sheet,
            preview=preview,
            preview_every=preview_every,
        )
        options = _resolve(options, prompt or [], prompts, from_)
    from videocrafter.cli.generate.run import run

    run(options)


def _resolve(
    options: GenerateOptions, prompts: Sequence[str], prompts_file: Path | None, repeated: Path | None
) -> GenerateOptions:
    """Add the prompts with their pictures, and what a recording says of all that was not given; check it all."""
    file = PromptFile(rows=()) if prompts_file is None else read_prompt_file(prompts_file)
    rows = [*(PromptRow(prompt=clean_text(text)) for text in prompts), *file.rows]
    sizes: dict[str, Any] = {name: value for name, value in file.sizes.items() if getattr(options, name) is None}
    options = replace(options, rows=tuple(rows), **sizes)
    if repeated is not None:
        options = repeat_recording(options, read_recording(repeated), repeated)
    options = replace(options, rows=pair_with_pictures(options.rows, options.image, prompts_file))
    check_options(options)
    return options
