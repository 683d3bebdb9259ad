"""The content of a publication: weights, model card, training record and sample images."""

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
_TEMPLATE_MARK = "[More Information Needed]"


@dataclass(frozen=True, kw_only=True)
class AuthorInput:
    """The author's input for the model card.

    Attributes:
        repo_id: repository to upload to, or None.
        name: title of the card without a repository; None takes the name of the run or folder.
        licence: licence of the weights, or None.
        data: description of the training data, or None.
        base_model: base model, as a preset's name or `USER/NAME`, or None.
    """

    repo_id: str | None = None
    name: str | None = None
    licence: str | None = None
    data: str | None = None
    base_model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Publication:
    """The files to publish.

    Attributes:
        folder: folder of the weights.
        description: one line that describes the weights.
        files: files by name.
        licence: licence of the weights.
        notes: messages for the author, one line each.
    """

    folder: Path
    description: str
    files: Mapping[str, ExportedFile]
    licence: str
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Total size of all files."""
        return sum(file.num_bytes for file in self.files.values())

    @property
    def card(self) -> str:
        """The text of the model card."""
        return self.files[CARD_FILE].text()


def find_weights(source: Path, checkpoint: str | None) -> Path:
    """Return the folder of weights at a path: the path itself, or a run's result or checkpoint.

    Raises:
        ValueError: the weights do not exist.
    """
    if not source.is_dir():
        what = "is a file" if source.exists() else "does not exist"
        raise ValueError(f"{source} {what}; pass the folder of a run, of a pipeline or of a LoRA")
    if not is_run_folder(source):
        if checkpoint is not None:
            raise ValueError(
                f"--checkpoint {checkpoint} needs a training run, but {source} is not one; omit --checkpoint"
            )
        return source
    from videocrafter.training.saving.saved_weights import choose_weights

    return choose_weights(source, checkpoint)


def plan_publication(folder: Path, author: AuthorInput) -> Publication:
    """Collect the files and write the model card. An existing card is kept.

    Raises:
        ValueError: the folder is damaged or not a model, the licence is unknown, or a file contains the path of the
            home folder.
    """
    export = plan_export(folder)
    record = read_training_record(folder)
    files, notes = dict(export.files), []
    if record is not None:
        files[RECORD_FILE] = ExportedFile(head=record.to_json().encode())
    if (folder / CARD_FILE).is_file() and not _is_template(folder / CARD_FILE):
        licence = _keep_card(folder, author, files)
        notes.append(f"the existing {CARD_FILE} is published unchanged")
    else:
        if (folder / CARD_FILE).is_file():
            notes.append(f"the existing {CARD_FILE} is a template that was not filled in; a new card is written")
        samples = _find_samples(folder, record)
        if samples is not None:
            files[SAMPLES_FILE] = ExportedFile(source=samples)
        facts = _facts(export, record, author, files)
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


def _is_template(card: Path) -> bool:
    """Return whether a card is the one that peft and the hub's library write, without information."""
    return _TEMPLATE_MARK in ExportedFile(source=card).text()


def _keep_card(folder: Path, author: AuthorInput, files: dict[str, ExportedFile]) -> str:
    """Add the existing card and the files that it links to; return its licence."""
    options = {"--licence": author.licence, "--data": author.data, "--base-model": author.base_model}
    given = [name for name, value in options.items() if value is not None]
    path = folder / CARD_FILE
    if given:
        raise ValueError(
            f"{' and '.join(given)} cannot be used, because {path} exists and is published unchanged; edit that file,"
            " or remove it to generate a new card"
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
    export: Export, record: TrainingRecord | None, author: AuthorInput, files: Mapping[str, ExportedFile]
) -> CardFacts:
    if author.licence is None:
        raise ValueError(
            "the licence of the weights is unknown; pass it with --licence, such as apache-2.0, mit or cc-by-nc-4.0"
        )
    if author.base_model is not None and author.base_model not in PRESETS:
        check_repo_id(author.base_model)
    ranks = tuple(lora_layers(export).values()) if export.is_lora else ()
    facts = CardFacts(
        name=author.repo_id.rpartition("/")[2] if author.repo_id else author.name or _name(export.folder),
        repo_id=author.repo_id,
        licence=parse_licence(author.licence),
        task=export.task,
        lora=LoraFacts(ranks=ranks) if export.is_lora else None,
        data=author.data or "",
        base_model=author.base_model,
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
    """Return notes about facts missing from the card, and how to add them."""
    notes = []
    if not facts.data and not (facts.record is not None and facts.record.sources):
        notes.append("the card gives no training data; describe it with --data")
    if facts.lora is not None and facts.base_id is None and facts.base_preset is None:
        notes.append("the card does not name the base model of the LoRA; pass it with --base-model")
    if facts.licence.name is not None and facts.licence_file is None:
        notes.append(
            f"{facts.licence.name!r} is not in the hub's list of licences; add its text to the folder as LICENSE"
        )
    return notes


def _with_task_of_base(facts: CardFacts) -> CardFacts:
    """Set the task of a LoRA to that of its base model; None if the base model is unknown."""
    if facts.base_preset is not None:
        return replace(facts, task=facts.base_preset.task)
    start = facts.record.start_class if facts.record is not None and facts.base_model is None else None
    return replace(facts, task=PIPELINE_TASKS.get(start or ""))


def _find_samples(folder: Path, record: TrainingRecord | None) -> Path | None:
    """Return the newest sample sheet of the weights' stage that is not newer than the weights."""
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
        raise ValueError(f"the path of your home folder ({home}) is in {' and '.join(found)}; remove it there")


def _name(folder: Path) -> str:
    run = run_of(folder)
    return (run or folder.resolve()).name or "model"


def _mapping(value: object) -> Mapping:
    return value if isinstance(value, Mapping) else {}
