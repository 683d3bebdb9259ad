"""Metrics of `videocrafter evaluate`: measure a set of videos, or generate one with a model and measure it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.interruption import reporting_interruption
from videocrafter.cli.progress_bar import progress_bar
from videocrafter.presets import FAMILIES, MODEL_INDEX, PRESETS, is_run_folder

if TYPE_CHECKING:
    from videocrafter.evaluation.evaluation_run import Outcome
    from videocrafter.evaluation.generated_set import PreparedSet
    from videocrafter.evaluation.measuring import Measurer
    from videocrafter.evaluation.prompt_list import PromptItem
    from videocrafter.evaluation.protocols.protocol import Protocol
    from videocrafter.evaluation.video_set import VideoSet

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """The options of the command that metrics take; see `--help`."""

    what: str
    output: Path
    protocol: str
    prompts: str | None
    reference: Path | None
    against: Path | None
    clip: Path | None
    weights: Path | None
    sd_images: Path | None
    image_tower: str | None
    batch_size: int
    steps: int | None
    guidance: float | None
    device: str
    overwrite: bool


def is_model(what: str) -> bool:
    """Whether the argument names a model rather than videos. Raises ValueError for a path that does not exist."""
    path = Path(what)
    if what in FAMILIES or what in PRESETS or is_run_folder(path) or (path / MODEL_INDEX).is_file():
        return True
    return not path.is_dir() and path.suffix.lower() not in _TABLES


def run_video_command(options: VideoOptions) -> None:
    """Measure videos or a model by a protocol: print tables, write the files of a report."""
    from videocrafter.cli.evaluate.tables import print_report
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.evaluation.paired import differences, read_earlier
    from videocrafter.evaluation.protocols.by_name import protocol_named
    from videocrafter.evaluation.report_files import check_report_files, write_report_files
    from videocrafter.evaluation.video_set import read_video_set
    from videocrafter.generation.hardware import choose_device

    silence_libraries()
    with bad_input():
        device = str(choose_device(options.device))
        protocol, items = _with_prompts(protocol_named(options.protocol), options)
        check_report_files(options.output, overwrite=options.overwrite)
        # Everything that the user named is opened before hours of work.
        earlier = None if options.against is None else read_earlier(options.against)
        if earlier is not None:
            earlier.check_protocol({"name": protocol.name, "sha256": protocol.sha256})
        reference = None if options.reference is None else read_video_set(options.reference)
        prepared = _prepared(options, protocol, items, device) if is_model(options.what) else None
        pipeline = None if prepared is None else prepared.load(_note)
        measurer = _measurer(protocol, options, items, pipeline, device)
    if prepared is None:
        with bad_input():
            videos, description = read_video_set(Path(options.what), items or None), {"source": options.what}
    else:
        videos, description = _generated(options, protocol, items, prepared, pipeline)
    outcome = _measure(options, measurer, videos, reference, description)
    with bad_input():
        if earlier is not None:
            outcome.report["differences"] = differences(earlier, outcome.report, outcome.videos)
        write_report_files(options.output, outcome.report, outcome.videos)
    print_report(outcome.report)
    typer.echo(f"Page: {options.output / 'report.html'}; all numbers: {options.output / 'report.json'}")


def _with_prompts(protocol: Protocol, options: VideoOptions) -> tuple[Protocol, Sequence[PromptItem]]:
    """Return the protocol pinned to the prompts, and the prompts; none for videos that bring their own."""
    from videocrafter.evaluation.prompt_list import read_prompt_list
    from videocrafter.evaluation.suites import read_suite, suite_names

    count = int(options.prompts) if options.prompts is not None and options.prompts.isdigit() else None
    given = options.prompts if count is None else None
    if given is None and protocol.prompts_sha256 is not None:
        raise ValueError(f"protocol {protocol.name} needs its prompts ({protocol.prompts_file}); pass --prompts FILE")
    if given is None and protocol.suite and (is_model(options.what) or count is not None):
        given = protocol.suite
    if given is None:
        return protocol, ()
    items = read_suite(given) if given in suite_names() else read_prompt_list(Path(given))
    if count is not None:
        if not 1 <= count <= len(items):
            raise ValueError(f"--prompts is {count}, expected 1 to {len(items)}")
        items = items[:count]
    return protocol.with_prompts(items), items


def _load(model: str, device: str) -> Any:
    from videocrafter.pipelines.loading import load_pipeline

    pipeline = load_pipeline(model, device=device, notify=lambda text: typer.echo(text, err=True))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _measurer(
    protocol: Protocol, options: VideoOptions, items: Sequence[PromptItem], pipeline: Any, device: str
) -> Measurer:
    from videocrafter.evaluation.measuring import Measurer
    from videocrafter.evaluation.metrics.drawn_images import find_drawn_images
    from videocrafter.evaluation.metrics.networks import Networks

    owner = pipeline if options.image_tower is None else _load(options.image_tower, device)
    encoder = getattr(owner, "image_encoder", None)
    if options.image_tower is not None and encoder is None:
        raise ValueError(f"{options.image_tower} has no image encoder; pass an image-to-video model to --image-tower")
    drawn = None
    if options.sd_images is not None:
        if not items:
            raise ValueError("--sd-images names pictures by the number of the prompt; pass the list with --prompts")
        drawn = find_drawn_images(options.sd_images, [item.prompt for item in items])
    networks = Networks(weights=options.weights, clip=options.clip, image_encoder=encoder, drawn=drawn, device=device)
    return Measurer(protocol, networks, has_reference=options.reference is not None)


def _prepared(options: VideoOptions, protocol: Protocol, items: Sequence[PromptItem], device: str) -> PreparedSet:
    """Check the model, the prompts and the finished videos. Raises ValueError if there are no prompts."""
    from videocrafter.cli.model_choice import model_folder
    from videocrafter.evaluation.generated_set import prepare_set

    if not items:
        raise ValueError(f"protocol {protocol.name} needs prompts ({protocol.prompts_file}); pass --prompts FILE")
    return prepare_set(
        options.what,
        items,
        options.output / "videos",
        seeds=protocol.seeds,
        settings=_settings(options, protocol),
        batch_size=options.batch_size,
        device=device,
        obtain=partial(model_folder, quiet=True),
        note=_note,
    )


def _settings(options: VideoOptions, protocol: Protocol) -> dict[str, Any]:
    """Return the settings that differ from the model's recommended ones."""
    settings: dict[str, Any] = {
        "num_frames": protocol.num_frames,
        "height": protocol.height,
        "width": protocol.width,
    }
    settings |= {"num_inference_steps": options.steps, "guidance_scale": options.guidance}
    return {name: value for name, value in settings.items() if value is not None}


def _note(text: str) -> None:
    typer.echo(f"note: {text}", err=True)


def _generated(
    options: VideoOptions, protocol: Protocol, items: Sequence[PromptItem], prepared: PreparedSet, pipeline: Any
) -> tuple[VideoSet, dict[str, Any]]:
    """Generate the videos that are missing; return all of them, and how they were made."""
    from videocrafter.evaluation.generated_set import generate_set
    from videocrafter.evaluation.model_identity import describe_model
    from videocrafter.evaluation.video_set import read_video_set

    done = 0
    with (
        progress_bar("generating") as show,
        reporting_interruption(lambda: f"{done} videos are finished; run the same command again to resume."),
        bad_input(ValueError),
    ):

        def on_progress(finished: int, total: int) -> None:
            nonlocal done
            done = finished
            show(finished, total)

        paths = generate_set(prepared, pipeline, on_progress=on_progress, note=_note)
    with bad_input():
        found = read_video_set(paths[0].parent, items)
    made = {path.name for path in paths}
    # The folder may hold videos of an earlier run with more prompts or other seeds.
    kept = tuple(entry for entry in found.entries if entry.name in made)
    description = {"model": options.what, "settings": _settings(options, protocol), "seeds": list(protocol.seeds)}
    return replace(found, entries=kept), {
        "source": options.what,
        "generation": description | describe_model(pipeline),
    }


def _measure(
    options: VideoOptions,
    measurer: Measurer,
    videos: VideoSet,
    reference: VideoSet | None,
    description: dict[str, Any],
) -> Outcome:
    from videocrafter.evaluation.evaluation_run import evaluate_videos

    done, total = 0, len(videos.entries)
    with (
        progress_bar("measuring") as show,
        reporting_interruption(
            lambda: f"{done} of {total} videos are measured; run the same command again to resume."
        ),
        bad_input(ValueError),
    ):

        def on_progress(finished: int, of: int) -> None:
            nonlocal done, total
            done, total = finished, of
            show(finished, of)

        return evaluate_videos(
            videos,
            measurer,
            options.output,
            reference=reference,
            description=description,
            on_progress=on_progress,
        )
