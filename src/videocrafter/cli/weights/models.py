"""`videocrafter models`: list known models with their status, requirements and vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videocrafter.cli.byte_size import format_bytes
from videocrafter.cli.errors import bad_input
from videocrafter.presets import FAMILIES, PRESETS, TASK_NAMES, ModelPreset, resolve_model

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
        typer.Argument(
            metavar="[NAME|FOLDER|FILE]", help="Show one model with its full vocabulary.", show_default=False
        ),
    ] = None,
) -> None:
    """List known models: which are available, what the others need, and their vocabulary. Downloads nothing."""
    from rich.console import Console

    console = Console(highlight=False)
    if name is not None:
        with bad_input():
            _show_one(console, name)
        return
    for preset in PRESETS.values():
        _show_preset(console, preset)
    families = "; ".join(
        f"{family} selects {', '.join(f'{name} ({TASK_NAMES[task]})' for task, name in by_task.items())}"
        for family, by_task in FAMILIES.items()
    )
    console.print(
        f"\n--model takes a name, or the path of a pipeline folder or an official checkpoint. {families}.",
        markup=False,
    )
    console.print("Show the full vocabulary of a model: videocrafter models NAME", markup=False)


def _show_preset(console: Console, preset: ModelPreset) -> None:
    from videocrafter.checkpoints.hub.obtain import model_status

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
    """Return the folder of a model in the package or in the cache, or None."""
    if preset.hub_id is not None:
        from videocrafter.checkpoints.hub.converted_models import find_converted_preset

        return find_converted_preset(preset)
    return preset.folder if preset.is_installed else None


def _show_needs(console: Console, preset: ModelPreset) -> None:
    """Print the requirements and recommended settings of a model that is not available."""
    if preset.hub_url is not None:
        _print_indented(console, f"weights: {preset.hub_url}")
    elif preset.source:
        _print_indented(console, f"weights: {preset.source}")
    if preset.memory_bytes is not None and preset.num_parameters is not None:
        _print_indented(
            console,
            f"{preset.num_parameters / 1e9:.2f} billion parameters; peak memory for one video in bfloat16:"
            f" about {preset.memory_bytes / 2**30:.0f} GiB (computed)",
        )
    if preset.defaults:
        fps = "" if preset.has_fps_condition else " (the network takes no fps)"
        _print_indented(console, f"recommended: {_settings(preset.defaults)}{fps}")


def _show_one(console: Console, name: str) -> None:
    """Print all details of a preset, of each model of a family, or of a folder."""
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
    """Return the pipeline folder at a path; for a checkpoint file, its converted folder."""
    path = Path(name)
    if not path.is_file():
        return resolve_model(name, "t2v")
    from videocrafter.checkpoints.file_content import check_is_checkpoint
    from videocrafter.checkpoints.hub.converted_models import find_converted

    folder = find_converted(path)
    if folder is None:
        check_is_checkpoint(path)
        raise ValueError(
            f"{path} is a checkpoint that has not been converted; --model {path} converts it on first use, and"
            f" `videocrafter convert {path} FOLDER` shows what it is"
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
    size = format_bytes(size_in_bytes(folder))
    if all_words:
        _print_indented(console, f"{task}; {size}; fingerprint {fingerprint(folder)}; in {folder}")
    else:
        _print_indented(console, f"{size} in {folder}")
    if _settings(defaults):
        _print_indented(console, f"recommended: {_settings(defaults)}")
    for kind, words in (index.get("knowledge") or {}).items():
        shown = words if all_words else words[:6]
        more = "" if len(shown) == len(words) else f", … ({len(words)} in total)"
        _print_indented(console, f"{kind}: {', '.join(shown)}{more}")


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
