"""What `videocrafter publish` gives away: the weights, their card and record, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from videocrafter import __version__
from videocrafter.checkpoints.publishing.licences import parse_licence
from videocrafter.checkpoints.publishing.model_card import (
    CARD_FILE,
    SAMPLES_FILE,
    CardFacts,
    LoraFacts,
    card_licence,
    linked_files,
    make_card,
)
from videocrafter.checkpoints.publishing.training_record import (
    RECORD_FILE,
    TrainingRecord,
    read_training_record,
    run_of,
)
from videocrafter.checkpoints.publishing.upload import check_repo_id
from videocrafter.pipelines.export import Export, ExportedFile, lora_layers, naming, parameter_counts, plan_export
from videocrafter.pipelines.model_folder import PIPELINE_TASKS
from videocrafter.presets import PRESETS, TASK_NAMES, is_run_folder

_LICENCE_TEXTS = ("LICENSE", "LICENCE")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user says of the weights.

    Attributes:
        repo_id: the repository that they are for, or None.
        name: the card's title where there is no repository; None takes the name of the run or of the folder.
        licence: None if nothing was said.
        data: what they were trained on.
        base_model: what they started from, or go on top of: a preset, or `USER/NAME`.
    """

    repo_id: str | None = None
    name: str | None = None
    licence: str | None = None
    data: str | None = None
    base_model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is given away.

    Attributes:
        folder: of the weights.
        description: one line: what it is.
        files: by name.
        licence: of the weights.
        notes: what its author should know, one line each.
    """

    folder: Path
    description: str
    files: Mapping[str, ExportedFile]
    licence: str
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(file.num_bytes for file in self.files.values())

    @property
    def card(self) -> str:
        """The text of the model card."""
        return self.files[CARD_FILE].text()


def find_weights(source: Path, checkpoint: str | None) -> Path:
    """The folder of weights that a path means: itself, or of a run its result or one of its checkpoints.

    Raises:
        ValueError: there are no such weights.
    """
    if not source.is_dir():
        what = "is a file" if source.exists() else "does not exist"
        raise ValueError(f"{source} {what}; give the folder of a run, of a pipeline or of a LoRA")
    if not is_run_folder(source):
        if checkpoint is not None:
            raise ValueError(f"--checkpoint {checkpoint}: {source} is no training run, so it has no checkpoints")
        return source
    from videocrafter.training.saving.saved_weights import choose_weights

    return choose_weights(source, checkpoint)


def plan_publication(folder: Path, wishes: Wishes) -> Publication:
    """Gather the files and write the card. A folder that has a card of its own keeps it.

    Raises:
        ValueError: the folder is damaged or no model, no licence is known, or something would tell of this computer
            what should stay on it.
    """
    export = plan_export(folder)
    record = read_training_record(folder)
    files, notes = dict(export.files), []
    if record is not None:
        files[RECORD_FILE] = ExportedFile(head=record.to_json().encode())
    if (folder / CARD_FILE).is_file():
        licence = _keep_card(folder, wishes, files)
        notes.append(f"the folder's own {CARD_FILE} goes along as it is")
    else:
        samples = _find_samples(folder, record)
        if samples is not None:
            files[SAMPLES_FILE] = ExportedFile(source=samples)
        facts = _facts(export, record, wishes, files)
        licence = str(facts.licence)
        files[CARD_FILE] = ExportedFile(head=make_card(facts).encode())
        notes += _missing(facts)
    _check_private(files)
    what = "a LoRA" if export.task is None else f"a pipeline, {TASK_NAMES[export.task]}"
    trained = f", recipe {record.name}" if record is not None and record.name is not None else ""
    return Publication(
        folder=folder,
        description=f"{folder}: {what}{trained}",
        files=dict(sorted(files.items())),
        licence=licence,
        notes=tuple(notes),
    )


def _keep_card(folder: Path, wishes: Wishes, files: dict[str, ExportedFile]) -> str:
    """Add the folder's own card, and the files that it shows; return the licence in it."""
    options = {"--licence": wishes.licence, "--data": wishes.data, "--base-model": wishes.base_model}
    given = [name for name, value in options.items() if value is not None]
    path = folder / CARD_FILE
    if given:
        raise ValueError(
            f"{' and '.join(given)}: {path} is a card already, and goes along as it is; say it there, or move that"
            " file away to have a new card made"
        )
    files[CARD_FILE] = ExportedFile(source=path)
    home = folder.resolve()
    for name in linked_files(files[CARD_FILE].text()):
        linked = folder / name
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if not hidden and linked.is_file() and linked.resolve().is_relative_to(home):
            files.setdefault(Path(name).as_posix(), ExportedFile(source=linked))
    return card_licence(path)


def _facts(
    export: Export, record: TrainingRecord | None, wishes: Wishes, files: Mapping[str, ExportedFile]
) -> CardFacts:
    if wishes.licence is None:
        raise ValueError(
            "the licence of the weights is not known, and is not guessed: say it with --licence, such as apache-2.0,"
            " mit or cc-by-nc-4.0"
        )
    if wishes.base_model is not None and wishes.base_model not in PRESETS:
        check_repo_id(wishes.base_model)
    ranks = tuple(lora_layers(export).values()) if export.is_lora else ()
    facts = CardFacts(
        name=wishes.repo_id.rpartition("/")[2] if wishes.repo_id else wishes.name or _name(export.folder),
        repo_id=wishes.repo_id,
        licence=parse_licence(wishes.licence),
        task=export.task,
        lora=LoraFacts(ranks=ranks) if export.is_lora else None,
        data=wishes.data or "",
        base_model=wishes.base_model,
        record=record,
        settings=_mapping(export.index.get("defaults")),
        knowledge=_mapping(export.index.get("knowledge")),
        num_parameters={} if export.is_lora else parameter_counts(export),
        has_samples=SAMPLES_FILE in files,
        licence_file=next((name for name in files if Path(name).stem.upper() in _LICENCE_TEXTS), None),
        version=__version__,
    )
    return _with_task_of_base(facts) if export.is_lora else facts


def _missing(facts: CardFacts) -> list[str]:
    """What the card cannot state, and how to change that."""
    notes = []
    if not facts.data and not (facts.record is not None and facts.record.sources):
        notes.append("the card says that nobody knows what it was trained on; --data tells")
    if facts.lora is not None and facts.base_id is None and facts.base_preset is None:
        notes.append("the card does not say which model the LoRA goes on top of; --base-model tells")
    if facts.licence.name is not None and facts.licence_file is None:
        notes.append(
            f"{facts.licence.name!r} is not in the hub's list of licences; put its text into the folder as LICENSE"
        )
    return notes


def _with_task_of_base(facts: CardFacts) -> CardFacts:
    """A LoRA is for the task of the model that it goes on top of; that of a folder is known while it is at hand."""
    if facts.base_preset is not None:
        return replace(facts, task=facts.base_preset.task)
    start = facts.record.start_class if facts.record is not None and facts.base_model is None else None
    return replace(facts, task=PIPELINE_TASKS.get(start or ""))


def _find_samples(folder: Path, record: TrainingRecord | None) -> Path | None:
    """The newest sample sheet of the stage that made the weights, not newer than they are."""
    run = run_of(folder)
    if run is None or record is None or not record.stages:
        return None
    last = record.stages[-1]
    steps = {
        int(place.name.rpartition("-")[2]): place
        for place in (run / "samples").glob(f"{last.name}-step-*")
        if place.name.rpartition("-")[2].isdecimal() and any(place.glob("*.png"))
    }
    newest = max((step for step in steps if last.steps is None or step <= last.steps), default=None)
    if newest is None:
        return None
    sheet = steps[newest] / SAMPLES_FILE
    return sheet if sheet.is_file() else min(steps[newest].glob("*.png"))


def _check_private(files: Mapping[str, ExportedFile]) -> None:
    home = str(Path.home())
    found = naming(home, files) if len(home) > 1 else []
    if found:
        raise ValueError(f"{' and '.join(found)} would tell the path of your home folder ({home}); take it out there")


def _name(folder: Path) -> str:
    run = run_of(folder)
    return (run or folder.resolve()).name or "model"


def _mapping(value: object) -> Mapping:
    return value if isinstance(value, Mapping) else {}
