"""A cache filled ahead of training: every cut of every clip, decoded by workers and encoded here.

Several processes share the work out by shards. What is there already is passed over, so a filling that was stopped
goes on.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from videocrafter.data.bad_samples import BadSamples
from videocrafter.data.cached_cuts import fixed_cut
from videocrafter.data.clip import Kind
from videocrafter.data.cutting import CutClip
from videocrafter.data.decoding import ClipDecoder, DecodingTask
from videocrafter.data.errors import BadSampleError
from videocrafter.data.loader import open_decoder, open_sources
from videocrafter.data.sample import VideoBatch, pixels_of
from videocrafter.data.source import ClipSource
from videocrafter.pipelines.model_folder import read_model_index
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.training.config import RecipeConfig, StageConfig
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.saving.interruption import StopRequest
from videocrafter.training.video.clip_cache.config import CacheError
from videocrafter.training.video.clip_cache.filling_progress import FillProgress
from videocrafter.training.video.clip_cache.stage_clips import StageClips
from videocrafter.training.video.frozen_networks import (
    IMAGE_PHASES,
    FrozenNetworks,
    frozen_folders,
    read_tokenizer,
    settle_weights,
)
from videocrafter.training.video.starting_pipeline import tower_folder, with_frames_of
from videocrafter.training.video.starting_weights import start_folder
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

_LEFT_OUT = "left_out.jsonl"


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What one process did.

    Attributes:
        added: cuts that were encoded.
        found: cuts that were there.
        left_out: cuts that cannot be used, found out now.
        finished: whether it came to the end.
    """

    added: int = 0
    found: int = 0
    left_out: int = 0
    finished: bool = True

    def __add__(self, other: Filled) -> Filled:
        return Filled(
            added=self.added + other.added,
            found=self.found + other.found,
            left_out=self.left_out + other.left_out,
            finished=self.finished and other.finished,
        )


@dataclass(frozen=True, kw_only=True)
class Thoroughness:
    """What is done with cuts that are there.

    Attributes:
        check: read each, and encode anew what is damaged.
        retry: decode those again that were left out; a file may have been mended.
    """

    check: bool = False
    retry: bool = False


@dataclass(frozen=True, kw_only=True)
class FillOutcome:
    """How the filling of a recipe's caches ended.

    Attributes:
        filled: by all processes together.
        folders: of the caches.
        is_main: whether this is the process that speaks for all.
        signal: number of the signal that stopped it, if one did.
    """

    filled: Filled
    folders: tuple[str, ...]
    is_main: bool
    signal: int | None


def fill_caches(
    recipe: RecipeConfig,
    *,
    device: torch.device | str | None = None,
    thoroughness: Thoroughness = Thoroughness(),
) -> FillOutcome:
    """Compute what is missing in the caches of all stages of a recipe.

    Every stage is encoded by the networks of what the first one starts from: a stage hands them on as they are.

    Raises:
        SettingsError: the recipe, its start or a cache cannot be used.
        SourceError, TooManyBadSamplesError: the data cannot be used.
    """
    stages = stages_to_fill(recipe)
    start = start_folder(recipe)
    if start is None:
        raise CacheError("it is not known what training starts from, whose networks encode; give --init FOLDER")
    processes = Processes(device)
    filled = Filled()
    with StopRequest() as stop:
        for stage in stages:
            assert isinstance(stage.task, ClipDiffusionTaskConfig)
            title = f"cache of {stage.name}"
            filled += fill_cache(stage.task, start, processes, stop, title=title, thoroughness=thoroughness)
            if not filled.finished:
                break
    together = sum(processes.gather(filled), start=Filled())
    folders = {stage.task.cache.folder for stage in stages if isinstance(stage.task, ClipDiffusionTaskConfig)}
    return FillOutcome(
        filled=together,
        folders=tuple(sorted(str(folder) for folder in folders)),
        is_main=processes.is_main,
        signal=stop.signal,
    )


def stages_to_fill(recipe: RecipeConfig) -> list[StageConfig]:
    """The stages of a recipe whose caches are not the same.

    Raises:
        CacheError: there is none.
    """
    found: dict[object, StageConfig] = {}
    for stage in recipe.stages:
        task = stage.task
        if not isinstance(task, ClipDiffusionTaskConfig):
            raise CacheError(f"the recipe {recipe.name!r} makes its own clips and keeps their latents itself")
        if task.cache.folder is None:
            raise CacheError("no folder was given for the cache; say where it goes with --cache DIR")
        takes_image = task.phase in IMAGE_PHASES
        how = (takes_image, task.image_tower, task.condition_frame, task.frozen_weights)
        found.setdefault((task.cache, task.data, task.validation, *how), stage)
    return list(found.values())


def fill_cache(
    config: ClipDiffusionTaskConfig,
    start: Path,
    processes: Processes,
    stop: StopRequest,
    *,
    title: str,
    thoroughness: Thoroughness = Thoroughness(),
) -> Filled:
    """Compute what is missing in a stage's cache.

    Args:
        config: of the stage's task, with sources and a cache folder.
        start: the pipeline folder that training starts from.
        title: what the progress calls it.

    Returns:
        What this process did.

    Raises:
        ValueError: the sources, the networks or the cache cannot be used; one line.
        TooManyBadSamplesError: more samples are bad than the rules allow.
    """
    if not config.data.sources:
        raise CacheError(
            "task.data.sources is empty; name your clips with --data, such as --data folder:/path/to/clips"
        )
    index = read_model_index(start)
    config = with_frames_of(GenerationDefaults.from_config(index.get("defaults")), config)
    config = settle_weights(config, processes.device)
    config = replace(config, cache=replace(config.cache, fill="missing"))
    tower = None if config.image_tower is None else tower_folder(config.image_tower)
    sources = frozen_folders(start, config.phase, tower)
    if config.phase in IMAGE_PHASES and "image_encoder" not in sources:
        raise CacheError(f"phase is {config.phase!r}, but the start takes no image; give task.image_tower")
    frozen = FrozenNetworks(sources, processes.device, config.frozen_weights)
    tokenizer = read_tokenizer(sources["tokenizer"], index["tokenizer"][1])
    clips = StageClips(config, sources, frozen, tokenizer, processes.device)
    try:
        return _Filling(config, clips, processes, thoroughness).run(stop, title)
    finally:
        clips.close()


@dataclass(frozen=True, kw_only=True)
class _UnderWay:
    """A cut that is being decoded; without a task, the end of a shard."""

    task: DecodingTask | None = None
    number: int = -1
    label: str = ""


class _Filling:
    def __init__(
        self, config: ClipDiffusionTaskConfig, clips: StageClips, processes: Processes, thoroughness: Thoroughness
    ) -> None:
        assert clips.cache is not None
        assert clips.cuts is not None
        self._config, self._clips, self._cache, self._cuts = config, clips, clips.cache, clips.cuts
        self._rank, self._world_size = processes.index, processes.count
        self._thoroughness = thoroughness
        rules = config.data.bad_samples
        if rules.report is None:
            rules = replace(rules, report=str(self._cache.folder / _LEFT_OUT))
        self._bad_samples = BadSamples(rules.of_process(self._rank, self._world_size))
        self._sources = open_sources(config.data.sources, one_clip=config.data.one_clip)
        self._decoding: ClipDecoder | None = None
        self._numbers = itertools.count()
        self._under_way: deque[_UnderWay] = deque()
        self._most_under_way = max(1, 3 * config.data.num_workers)
        self._added = self._found = self._left_out = self._added_before = 0

    def run(self, stop: StopRequest, title: str) -> Filled:
        """Look at every shard that is this process's; encode what is missing."""
        num_shards = sum(len(self._shards_of(source)) for source in self._sources)
        progress = FillProgress(title, num_shards, shown=self._rank == 0)
        try:
            for task, label in self._all_missing():
                if stop.requested():
                    return self._filled(finished=False)
                self._under_way.append(_UnderWay() if task is None else self._submitted(task, label))
                self._receive(progress, self._most_under_way)
            while self._under_way and not stop.requested():
                self._receive(progress, len(self._under_way) - 1)
            if self._under_way:
                return self._filled(finished=False)
            self._encode_what_is_always_needed()
            return self._filled(finished=True)
        finally:
            progress.close()
            if self._decoding is not None:
                self._decoding.close()

    def _filled(self, *, finished: bool) -> Filled:
        return Filled(added=self._added, found=self._found, left_out=self._left_out, finished=finished)

    def _encode_what_is_always_needed(self) -> None:
        """The null conditions, and the clips that validation measures."""
        if self._rank == 0:
            self._clips.encoder.null_text()
            if self._clips.takes_image:
                self._clips.encoder.null_image()
            self._clips.fixed()

    def _shards_of(self, source: ClipSource) -> range:
        """The shards that this process looks into: its share, or all where there are too few to be shared."""
        if source.num_shards < self._world_size:
            return range(source.num_shards)
        return range(self._rank, source.num_shards, self._world_size)

    def _all_missing(self) -> Iterator[tuple[DecodingTask | None, str]]:
        """What has to be done, and the label of its source; None at the end of each shard."""
        for source in self._sources:
            for shard in self._shards_of(source):
                for task in self._missing(source, shard):
                    yield task, source.label
                yield None, source.label

    def _missing(self, source: ClipSource, index: int) -> Iterator[DecodingTask]:
        """The cuts of a shard that have to be encoded by this process."""
        content = source.read_shard(index)
        if content.problem is not None:
            self._bad_samples.bad(source.label, f"shard {index}", "damaged_archive", content.problem)
        kind: Kind = source.kind
        for item, clip in enumerate(content.clips):
            if source.num_shards < self._world_size and item % self._world_size != self._rank:
                continue
            for number in range(self._cuts.count(kind)):
                task = fixed_cut(source.label, clip, kind, number, self._config.data.cutting)
                if self._is_there(task):
                    self._found += 1
                else:
                    yield task

    def _is_there(self, task: DecodingTask) -> bool:
        assert task.name is not None
        if task.name not in self._cache or self._thoroughness == Thoroughness():
            return task.name in self._cache
        found = self._cache.find(task.name)
        is_bad = isinstance(found, BadSampleError)
        return found is not None and not (is_bad and self._thoroughness.retry)

    def _submitted(self, task: DecodingTask, label: str) -> _UnderWay:
        if self._decoding is None:
            self._decoding = open_decoder(self._config.data)
        number = next(self._numbers)
        self._decoding.submit(number, task)
        return _UnderWay(task=task, number=number, label=label)

    def _receive(self, progress: FillProgress, most: int) -> None:
        """Wait until at most so many cuts are under way; encode those that came."""
        while self._under_way and (len(self._under_way) > most or self._under_way[0].task is None):
            first = self._under_way.popleft()
            if first.task is None:
                progress.advance(self._added - self._added_before)
                self._added_before = self._added
            else:
                self._encode(first, first.task)

    def _encode(self, first: _UnderWay, task: DecodingTask) -> None:
        assert self._decoding is not None
        assert task.name is not None
        cut = self._decoding.take(first.number).outcome
        if isinstance(cut, BadSampleError):
            self._left_out += 1
            self._cache.keep_bad(task.name, cut)
            self._bad_samples.bad(first.label, task.clip.key, cut.reason, str(cut))
            return
        assert isinstance(cut, CutClip)
        self._clips.encoder.encode(
            VideoBatch(
                pixels=pixels_of([cut]),
                captions=(cut.caption,),
                fps=torch.tensor([cut.fps], dtype=torch.float32),
                keys=(task.name.key,),
                cuts=(task.name,),
            )
        )
        self._added += 1
        self._bad_samples.good()
