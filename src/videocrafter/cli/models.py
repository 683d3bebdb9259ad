"""`videocrafter models`: which models are known and installed, and what each of them knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.presets import FAMILIES, PRESETS, TASK_NAMES, ModelPreset, resolve_model

if TYPE_CHECKING:
    from rich.console import Console

_SETTINGS = ("num_frames", "width", "height", "fps", "fps_range", "num_inference_steps", "guidance_scale")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("models")(models)


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FOLDER]", help="Show all that one model knows.", show_default=False),
    ] = None,
) -> None:
    """List known models: which are installed, what they need and what they know."""
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
    console.print(f"\n--model takes a name, or the path of a pipeline folder. {families}.", markup=False)
    console.print("All words that a model knows: videocrafter models NAME", markup=False)


def _show_preset(console: Console, preset: ModelPreset) -> None:
    style = "green" if preset.is_installed else "dim"
    console.print(f"[bold]{preset.name}[/bold]: {TASK_NAMES[preset.task]}, [{style}]{preset.status}[/{style}]")
    _print_indented(console, preset.description)
    if preset.is_installed and preset.folder is not None:
        with bad_input():
            _show_folder(console, preset.folder, all_words=False)
    elif preset.needs:
        _print_indented(console, f"needs {preset.needs}: {preset.hub_id}")
    _print_indented(console, f"licence of the weights: {preset.weights_licence}")


def _show_one(console: Console, name: str) -> None:
    """Everything about a preset, about each model of a family, or about a folder."""
    presets = [PRESETS[one] for one in FAMILIES[name].values()] if name in FAMILIES else []
    presets += [PRESETS[name]] if name in PRESETS else []
    from rich.text import Text

    for preset in presets:
        if preset.is_installed and preset.folder is not None:
            console.print(Text(preset.name, style="bold"))
            _show_folder(console, preset.folder, all_words=True)
        else:
            _show_preset(console, preset)
    if not presets:
        folder = resolve_model(name, "t2v")
        console.print(Text(str(folder), style="bold"))
        _show_folder(console, folder, all_words=True)


def _show_folder(console: Console, folder: Path, all_words: bool) -> None:
    from videocrafter.pipelines.model_folder import (
        PIPELINE_TASKS,
        fingerprint,
        read_model_index,
        size_in_bytes,
    )

    index = read_model_index(folder)
    defaults: dict[str, Any] = index.get("defaults") or {}
    settings = ", ".join(f"{key} {_plain(defaults[key])}" for key in _SETTINGS if key in defaults)
    task = TASK_NAMES[PIPELINE_TASKS[index["_class_name"]]]
    megabytes = size_in_bytes(folder) / 1e6
    if all_words:
        _print_indented(console, f"{task}; {megabytes:.1f} MB; content {fingerprint(folder)}; in {folder}")
    else:
        _print_indented(console, f"{megabytes:.1f} MB in {folder}")
    if settings:
        _print_indented(console, f"recommended: {settings}")
    for kind, words in (index.get("knowledge") or {}).items():
        shown = words if all_words else words[:6]
        more = "" if len(shown) == len(words) else f", … ({len(words)} in all)"
        _print_indented(console, f"knows {kind}: {', '.join(shown)}{more}")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(_plain(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_indented(console: Console, text: str) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text), (0, 0, 0, 2)))
