"""`videocrafter models`: which models are known, which are there, what each needs and knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videocrafter.checkpoints.hub.converted_models import find_converted, find_converted_preset
from videocrafter.checkpoints.hub.obtain import model_status
from videocrafter.cli.errors import bad_input
from videocrafter.presets import CHECKPOINT_SUFFIXES, FAMILIES, PRESETS, TASK_NAMES, ModelPreset, resolve_model

if TYPE_CHECKING:
    from rich.console import Console

_READY = ("installed", "cached")
_SETTINGS = ("num_frames", "width", "height", "fps", "fps_range", "num_inference_steps", "guidance_scale")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("models")(models)


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FOLDER|FILE]", help="Show all that one model knows.", show_default=False),
    ] = None,
) -> None:
    """List known models: which are there, what the others need, and what each knows. Downloads nothing."""
    from rich.console import Console

    console = Console(highlight=False)
    if name is not None:
        with bad_input():
            _show_one(console, name)
        return
    for preset in PRESETS.values():
        _show_preset(console, preset)
    families = "; ".join(
        f"{family} means {', '.join(f'{name} ({TASK_NAMES[task]})' for task, name in by_task.items())}"
        for family, by_task in FAMILIES.items()
    )
    console.print(
        f"\n--model takes a name, or the path of a pipeline folder or of an official checkpoint. {families}.",
        markup=False,
    )
    console.print("All words that a model knows: videocrafter models NAME", markup=False)


def _show_preset(console: Console, preset: ModelPreset) -> None:
    status = model_status(preset)
    style = "green" if status in _READY else "dim"
    console.print(f"[bold]{preset.name}[/bold]: {TASK_NAMES[preset.task]}, [{style}]{status}[/{style}]")
    _print_indented(console, preset.description)
    folder = _folder_of(preset)
    if folder is not None:
        with bad_input():
            _show_folder(console, folder, all_words=False)
    else:
        _show_needs(console, preset)
    _print_indented(console, f"licence of the weights: {preset.weights_licence}")


def _folder_of(preset: ModelPreset) -> Path | None:
    """Where a model is, in the package or in the cache; None if it is not there."""
    if preset.hub_id is not None:
        return find_converted_preset(preset)
    return preset.folder if preset.is_installed else None


def _show_needs(console: Console, preset: ModelPreset) -> None:
    """What a model that is not there will need, and how it is best used."""
    if preset.hub_url is not None:
        _print_indented(console, f"weights: {preset.hub_url}")
    elif preset.source:
        _print_indented(console, f"weights: {preset.source}")
    if preset.memory_bytes is not None and preset.num_parameters is not None:
        _print_indented(
            console,
            f"{preset.num_parameters / 1e9:.2f} billion parameters; one video in bfloat16 takes about"
            f" {preset.memory_bytes / 2**30:.0f} GiB of memory (computed)",
        )
    if preset.defaults:
        deaf = "" if preset.has_fps_condition else " (the network is not told the fps)"
        _print_indented(console, f"recommended: {_settings(preset.defaults)}{deaf}")


def _show_one(console: Console, name: str) -> None:
    """Everything about a preset, about each model of a family, or about a folder."""
    presets = [PRESETS[one] for one in FAMILIES[name].values()] if name in FAMILIES else []
    presets += [PRESETS[name]] if name in PRESETS else []
    from rich.text import Text

    for preset in presets:
        folder = _folder_of(preset)
        if folder is not None:
            console.print(Text(preset.name, style="bold"))
            _show_folder(console, folder, all_words=True)
        else:
            _show_preset(console, preset)
    if not presets:
        folder = _folder_at(name)
        console.print(Text(str(folder), style="bold"))
        _show_folder(console, folder, all_words=True)


def _folder_at(name: str) -> Path:
    """The pipeline folder at a path; of a checkpoint file, the one that it was converted to."""
    path = Path(name)
    if not (path.is_file() and path.suffix.lower() in CHECKPOINT_SUFFIXES):
        return resolve_model(name, "t2v")
    folder = find_converted(path)
    if folder is None:
        raise ValueError(
            f"{path} is a checkpoint that was not converted yet; --model {path} converts it on first use, and"
            f" `videocrafter convert {path} FOLDER` says what it is"
        )
    return folder


def _show_folder(console: Console, folder: Path, all_words: bool) -> None:
    from videocrafter.pipelines.model_folder import (
        PIPELINE_TASKS,
        fingerprint,
        read_model_index,
        size_in_bytes,
    )

    index = read_model_index(folder)
    defaults: dict[str, Any] = index.get("defaults") or {}
    task = TASK_NAMES[PIPELINE_TASKS[index["_class_name"]]]
    megabytes = size_in_bytes(folder) / 1e6
    if all_words:
        _print_indented(console, f"{task}; {megabytes:.1f} MB; content {fingerprint(folder)}; in {folder}")
    else:
        _print_indented(console, f"{megabytes:.1f} MB in {folder}")
    if _settings(defaults):
        _print_indented(console, f"recommended: {_settings(defaults)}")
    for kind, words in (index.get("knowledge") or {}).items():
        shown = words if all_words else words[:6]
        more = "" if len(shown) == len(words) else f", … ({len(words)} in all)"
        _print_indented(console, f"knows {kind}: {', '.join(shown)}{more}")


def _settings(defaults: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(defaults[key])}" for key in _SETTINGS if defaults.get(key) is not None)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(_plain(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_indented(console: Console, text: str) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text), (0, 0, 0, 2)))
