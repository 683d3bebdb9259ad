"""Everything that one studio owns: folder, database, limits, models and LoRAs; in the server and in its worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from videocrafter.pipelines.model_folder import ModelFolderError, read_model_index
from videocrafter.presets import FAMILIES, MODEL_INDEX, PRESETS
from videocrafter.web.data_folder import DataFolder
from videocrafter.web.job_request import Library
from videocrafter.web.limits import Limits
from videocrafter.web.store.database import Database, open_database
from videocrafter.web.store.events import EventStore
from videocrafter.web.store.jobs import JobStore
from videocrafter.web.store.uploads import UploadStore
from videocrafter.web.store.videos import VideoStore


@dataclass(frozen=True, kw_only=True)
class StudioConfig:
    """Configuration of a studio; a worker process receives it as it is.

    Attributes:
        data: the studio's folder.
        limits: of queue, uploads, disk and connections.
        devices: one worker process for each: cpu, cuda, cuda:1, mps or auto.
        runs: folder of training runs to show, or None.
        token: secret that every request must know; None for a server that only this machine reaches.
        hosts: names besides those of the loopback interface under which the server may be addressed.
    """

    data: Path
    limits: Limits = field(default_factory=Limits)
    devices: tuple[str, ...] = ("auto",)
    runs: Path | None = None
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """The device of a worker, which receives a configuration with one."""
        return self.devices[0]


class Studio:
    """A configuration with its stores. Each process has one of its own."""

    def __init__(self, config: StudioConfig) -> None:
        self.config = config
        self.limits = config.limits
        self.folder = DataFolder(config.data)
        self.folder.create()
        self.database: Database = open_database(self.folder.database)
        self.jobs = JobStore(self.database)
        self.videos = VideoStore(self.database)
        self.uploads = UploadStore(self.database)
        self.events = EventStore(self.database)

    @cached_property
    def known_models(self) -> list[str]:
        """Models known by name whose weights are in this installation."""
        installed = {name for name, preset in PRESETS.items() if preset.is_installed}
        families = [name for name, members in FAMILIES.items() if set(members.values()) <= installed]
        return [*families, *sorted(installed)]

    def library(self) -> Library:
        """Return what requests may name; models and LoRAs are looked up in the folder each time."""
        models = {path.parent.name: path.parent for path in sorted(self.folder.models.glob(f"*/{MODEL_INDEX}"))}
        loras = {path.stem: path for path in sorted(self.folder.loras.glob("*.safetensors"))}
        return Library(models=models, loras=loras, known_models=self.known_models, file_of=self.file_of)

    def file_of(self, identity: str) -> Path:
        """Return the file of an upload or video. Raises KeyError for an unknown id."""
        try:
            upload = self.uploads.get(identity)
        except KeyError:
            return self.folder.video(self.videos.get(identity).id)
        return self.folder.upload(upload.id, upload.suffix)

    def model_folders(self) -> dict[str, Path]:
        """Return the folder of every model that can be chosen; a family stands for its text-to-video model."""
        folders = {}
        for name in self.known_models:
            folder = PRESETS[FAMILIES[name]["t2v"] if name in FAMILIES else name].folder
            if folder is not None:
                folders[name] = folder
        return folders | dict(self.library().models)

    def model_index(self, folder: Path) -> dict[str, object] | None:
        """Return the index of a model, or None if it is damaged."""
        try:
            return dict(read_model_index(folder))
        except (ModelFolderError, OSError):
            return None
