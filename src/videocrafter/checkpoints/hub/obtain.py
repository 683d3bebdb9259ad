"""Resolve a model name, file or folder to a pipeline folder; download and convert the model if needed."""

from __future__ import annotations

import os
from pathlib import Path

from videocrafter.checkpoints.file_content import check_is_checkpoint
from videocrafter.checkpoints.hub.converted_models import converted_folder, find_converted_preset, hub_name
from videocrafter.checkpoints.hub.download import Notify, download, downloaded_file, size_text
from videocrafter.checkpoints.official.conversion import OnProgress
from videocrafter.media.home_folder import expand_home
from videocrafter.presets import ModelPreset, Task, preset_for, resolve_model


def obtain_model(
    name_or_path: str | os.PathLike[str],
    task: Task,
    *,
    notify: Notify | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Return the pipeline folder of a model; download and convert the model first if needed.

    Only the checkpoint of a preset that is named explicitly is downloaded.

    Args:
        name_or_path: a preset ("t2v-512"), a family ("tiny"), a pipeline folder, or a checkpoint file in the
            official format.
        task: as for `resolve_model`. The task of a checkpoint file is known only after its conversion.
        notify: called with one line before each download (size, folder, licence) and each conversion.
        on_progress: called with the bytes converted so far and the total.

    Raises:
        ValueError: an unknown name, a failed download, or a file that is not an official checkpoint; one line.
        OSError: a file cannot be read or written, or the disk is full.
    """
    given = str(expand_home(name_or_path))
    preset = preset_for(given, task)
    if preset is not None and preset.hub_id is not None:
        converted = find_converted_preset(preset)
        if converted is not None:
            return converted
        source = download(preset, notify)
        return converted_folder(source, name=hub_name(preset), notify=notify, on_progress=on_progress)
    path = Path(given)
    if preset is None and path.is_file():
        check_is_checkpoint(path)
        return converted_folder(path, notify=notify, on_progress=on_progress)
    folder = resolve_model(given, task)
    if preset is None and folder != path and notify is not None:
        notify(f"{path} is a training run; using its result, {folder}")
    return folder


def model_status(preset: ModelPreset) -> str:
    """Return a phrase for listings: whether a model is available, or what it needs first."""
    if preset.is_installed:
        return "installed"
    if preset.asset is not None:
        return "missing from this installation"
    if preset.hub_id is None:
        return "no public weights"
    if find_converted_preset(preset) is not None:
        return "cached"
    if downloaded_file(preset) is not None:
        return "downloaded, converted on first use"
    return f"needs a download of {size_text(preset)}"
