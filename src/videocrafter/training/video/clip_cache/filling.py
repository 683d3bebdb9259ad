"""Fill a cache in advance: workers decode every cut of every clip, and this process encodes them.

Several processes divide the data's shards among them. Cached cuts are skipped, so an interrupted filling resumes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
from videocrafter.training.interruption import StopRequest
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.video.clip_cache.config import CacheError
from videocrafter.training.video.clip_cache.filling_progress import FillingProgress
from videocrafter.training.video.clip_cache.stage_clips import StageClips
from videocrafter.training.video.frozen_networks import (
    FrozenNetworks,
    frozen_folders,
    read_tokenizer,
    settle_weights,
)
from videocrafter.training.video.long_captions import LongCaptions
from videocrafter.training.video.phases import IMAGE_PHASES
from videocrafter.training.video.starting_pipeline import with_frames_of
from videocrafter.training.video.starting_weights import named_folder, start_folder
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

_LEFT_OUT = "left_out.jsonl"


@dataclass(frozen=True, kw_only=True)
class Filled:
    """The result of filling a cache.

    Attributes:
        added: number of cuts encoded now.
        found: number of cuts that were already cached.
        left_out: number of cuts found unusable now.
        long_captions: counts of the captions encoded now.
        finished: whether all cuts were processed.
    """

    added: int = 0
    found: int = 0
    left_out: int = 0
    long_captions: LongCaptions = field(default_factory=LongCaptions)
    finished: bool = True

    def __add__(self, other: Filled) -> Filled:
        return Filled(
            added=self.added + other.added,
            found=self.found + other.found,
            left_out=self.left_out + other.left_out,
            long_captions=self.long_captions + other.long_captions,
            finished=self.finished and other.finished,
        )


@dataclass(frozen=True, kw_only=True)
class Thoroughness:
    """Treatment of cuts that are already cached.

    Attributes:
        check: read each one, and encode damaged ones again.
        retry: try again to decode cuts that were left out; their files may have been fixed.
    """

    check: bool = False
    retry: bool = False


@dataclass(frozen=True, kw_only=True)
class FillOutcome:
    """The result of filling all caches of a recipe.

    Attributes:
        filled: sum over all processes.
        folders: folders of the caches.
        is_main: whether this is the main process.
        signal: number of the signal that stopped the filling, if one did.
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
    """Encode what is missing in the caches of all stages of a recipe.

    The networks are those of the model that the first stage starts from; stages do not change the frozen networks.

    Raises:
        SettingsError: the recipe, its starting model or a cache cannot be used.
        SourceError, TooManyBadSamplesError: the data cannot be used.
    """
    stages = stages_to_fill(recipe)
    start = start_folder(recipe)
    if start is None:
        raise CacheError(
            "the recipe names no model to start from, whose networks encode the clips; pass --init FOLDER"
        )
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
    """Return the stages of a recipe that have different caches, one per cache.

    Raises:
        CacheError: a stage has no cache folder, or does not train on clips.
    """
    found: dict[object, StageConfig] = {}
    for stage in recipe.stages:
        task = stage.task
        if not isinstance(task, ClipDiffusionTaskConfig):
            raise CacheError(f"the recipe {recipe.name!r} renders its own clips and needs no cache")
        if task.cache.folder is None:
            raise CacheError("no cache folder is set; pass --cache DIR")
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
    """Encode what is missing in a stage's cache.

    Args:
        config: configuration of the stage's task, with sources and a cache folder.
        start: the pipeline folder that training starts from.
        title: label of the progress bar.

    Returns:
        The result of this process.

    Raises:
        ValueError: the sources, the networks or the cache cannot be used.
        TooManyBadSamplesError: more samples are bad than the rules allow.
    """
    if not config.data.sources:
        raise CacheError(
            "task.data.sources is empty; pass your clips with --data, for example --data folder:/path/to/clips"
        )
    index = read_model_index(start)
    config = with_frames_of(GenerationDefaults.from_config(index.get("defaults")), config)
    config = settle_weights(config, processes.device)
    config = replace(config, cache=replace(config.cache, fill="missing"))
    tower = None if config.image_tower is None else named_folder(config.image_tower)
    sources = frozen_folders(start, config.phase, tower)
    if config.phase in IMAGE_PHASES and "image_encoder" not in sources:
        raise CacheError(
            f"phase is {config.phase!r}, but the starting model has no image encoder; set task.image_tower"
        )
    frozen = FrozenNetworks(sources, processes.device, config.frozen_weights)
    tokenizer = read_tokenizer(sources["tokenizer"], index["tokenizer"][1])
    clips = StageClips(config, sources, frozen, tokenizer, processes.device)
    try:
        return _Filling(config, clips, processes, thoroughness).run(stop, title)
    finally:
        clips.close()


@dataclass(frozen=True, kw_only=True)
class _UnderWay:
    """A cut that is being decoded or, without a task, the end of a shard."""

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
        """Process this process's shards: encode what is missing."""
        num_shards = sum(len(self._shards_of(source)) for source in self._sources)
        progress = FillingProgress(title, num_shards, shown=self._rank == 0)
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
            self._encode_fixed_entries()
            return self._filled(finished=True)
        finally:
            progress.close()
            if self._decoding is not None:
                self._decoding.close()

    def _filled(self, *, finished: bool) -> Filled:
        return Filled(
            added=self._added,
            found=self._found,
            left_out=self._left_out,
            long_captions=self._clips.encoder.long_captions,
            finished=finished,
        )

    def _encode_fixed_entries(self) -> None:
        """Encode the null conditions and the fixed clips of validation."""
        if self._rank == 0:
            self._clips.encoder.null_text()
            if self._clips.takes_image:
                self._clips.encoder.null_image()
            self._clips.fixed()

    def _shards_of(self, source: ClipSource) -> range:
        """Return this process's share of the shards; all of them if there are fewer shards than processes."""
        if source.num_shards < self._world_size:
            return range(source.num_shards)
        return range(self._rank, source.num_shards, self._world_size)

    def _all_missing(self) -> Iterator[tuple[DecodingTask | None, str]]:
        """Yield missing cuts with the label of their source, and None at the end of each shard."""
        for source in self._sources:
            for shard in self._shards_of(source):
                for task in self._missing(source, shard):
                    yield task, source.label
                yield None, source.label

    def _missing(self, source: ClipSource, index: int) -> Iterator[DecodingTask]:
        """Yield the missing cuts of a shard that this process encodes."""
        content = source.read_shard(index)
        if content.problem is not None:
            self._bad_samples.bad(source.label, f"shard {index}", "damaged_archive", content.problem)
        kind: Kind = source.kind
        for item, clip in enumerate(content.clips):
            if source.num_shards < self._world_size and item % self._world_size != self._rank:
                continue
            for number in range(self._cuts.count(kind)):
                task = fixed_cut(source.label, clip, kind, number, self._config.data.cutting)
                if self._is_cached(task):
                    self._found += 1
                else:
                    yield task

    def _is_cached(self, task: DecodingTask) -> bool:
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

    def _receive(self, progress: FillingProgress, most: int) -> None:
        """Encode decoded cuts until at most `most` are still being decoded."""
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
