"""Find the weights of a run: its result, or one of its checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

from videocrafter.media.json_file import read_json_object
from videocrafter.training.saving.checkpoint import Checkpoints, find_damage
from videocrafter.training.saving.run_folder import RunFolder, RunFolderError

LATEST, BEST = "latest", "best"


def choose_weights(root: Path, checkpoint: str | None) -> Path:
    """Return the folder of a run's weights.

    Args:
        root: the run's folder.
        checkpoint: None for the result; "latest" for the newest intact checkpoint; "best" for the checkpoint with the
            lowest `keep_best` metric, of the last stage that has one; a step; or a checkpoint's name.

    Raises:
        RunFolderError: there are no such weights, or they are damaged; the message lists the checkpoints.
    """
    run = RunFolder(root)
    if checkpoint is None:
        if not run.final.is_dir():
            raise RunFolderError(f"{root} has no result yet ({run.final} is missing); pass --checkpoint {LATEST}")
        return run.final
    stages = [Checkpoints(run.checkpoints, name, keep=1) for name in _stage_names(root)]
    if checkpoint == LATEST:
        found = next((path for stage in reversed(stages) if (path := stage.latest()) is not None), None)
    elif checkpoint == BEST:
        found = next((stage.path(best[0]) for stage in reversed(stages) if (best := stage.best()) is not None), None)
    else:
        found = _named(run, checkpoint)
    if found is None:
        why = {LATEST: "no intact checkpoint", BEST: "no best checkpoint (its recipe sets no keep_best)"}
        raise RunFolderError(
            f"{root} has {why.get(checkpoint, f'no checkpoint {checkpoint!r}')}; {_checkpoints_of(run)}"
        )
    damage = find_damage(found)
    if damage is not None:
        raise RunFolderError(f"the checkpoint {found} is damaged ({damage}); {_checkpoints_of(run)}")
    return found


def _stage_names(root: Path) -> list[str]:
    """Return the names of the recipe's stages in order."""
    try:
        recipe = read_json_object(root / "config.json")
        return [str(stage["name"]) for stage in recipe["stages"]]
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{root / 'config.json'} cannot be read ({error}); is {root} a run's folder?") from None


def _named(run: RunFolder, wanted: str) -> Path | None:
    names = _names(run)
    if re.fullmatch(r"\d+", wanted):
        names = [name for name in names if int(name.rpartition("-")[2]) == int(wanted)]
    else:
        names = [name for name in names if name == wanted]
    if len(names) > 1:
        raise RunFolderError(
            f"{run.root} has {len(names)} checkpoints of step {wanted}; choose one by name: {', '.join(names)}"
        )
    return run.checkpoints / names[0] if names else None


def _names(run: RunFolder) -> list[str]:
    folders = run.checkpoints.iterdir() if run.checkpoints.is_dir() else ()
    return sorted(path.name for path in folders if path.is_dir() and re.fullmatch(r".+-step-\d{8,}", path.name))


def _checkpoints_of(run: RunFolder) -> str:
    return f"checkpoints: {', '.join(_names(run)) or 'none'}"
