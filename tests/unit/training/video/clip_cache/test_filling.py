"""A filled cache contains every cut of every clip once, for any number of processes and interruptions."""

from __future__ import annotations

import itertools
import json
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.unit.training.video.clip_cache.toy_clips import (
    CLIPS,
    CPU,
    PICTURES,
    recipe,
    sources_of,
    task_config,
)
from videocrafter.data.cached_cuts import fixed_cut
from videocrafter.data.cutting import CachedCut
from videocrafter.data.errors import TooManyBadSamplesError
from videocrafter.data.sources.specs import open_source
from videocrafter.media.video_file import write_video
from videocrafter.training.interruption import StopRequest
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.video.clip_cache import filling
from videocrafter.training.video.clip_cache.cache_file import CacheFile
from videocrafter.training.video.clip_cache.clip_cache import ClipCache, EncodedCut
from videocrafter.training.video.clip_cache.config import CacheConfig, CacheError
from videocrafter.training.video.clip_cache.description import describe
from videocrafter.training.video.clip_cache.filling import (
    Filled,
    Thoroughness,
    fill_cache,
    fill_caches,
    stages_to_fill,
)
from videocrafter.training.video.long_captions import LongCaptions
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig


@dataclass
class Share:
    """One of several processes that run one after another."""

    index: int = 0
    count: int = 1
    device = CPU


class StopAfter(StopRequest):
    """A stop request that is raised after a number of checks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def requested(self) -> bool:
        self._looks -= 1
        return self._looks < 0


def fill(
    task: ClipDiffusionTaskConfig,
    start: Path,
    *,
    share: Share | None = None,
    looks: int = 10_000,
    **thorough: bool,
) -> Filled:
    """Fill the cache; the counts of long captions, which have tests of their own, are left out of the result."""
    how = Thoroughness(**thorough)
    filled = fill_cache(task, start, share or Share(), StopAfter(looks), title="toy", thoroughness=how)  # type: ignore[arg-type]
    return replace(filled, long_captions=LongCaptions())


def records(folder: Path) -> list[dict[str, Any]]:
    """Return the names of all entries, repeated if several files contain them."""
    found: list[dict[str, Any]] = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            shard = CacheFile(path, file.metadata()["cache"])
        found += [dict(entry.record) for name in shard.names() if (entry := shard.read(name)) is not None]
    return found


def cuts(folder: Path) -> list[tuple[object, object]]:
    """Return clip and number of each cut that is cached for training, in order."""
    fixed = 2  # the clips of validation are cached as well, with cuts of their own
    found = sorted((str(record["key"]), record["cut"]) for record in records(folder) if "cut" in record)
    assert len(found) > fixed
    return found


def write_clip(path: Path, value: int = 128) -> None:
    write_video(path, np.full((8, 16, 16, 3), value, np.uint8), playback_fps=8, overwrite=True)


def clip_folder(folder: Path, count: int, bad: tuple[int, ...] = ()) -> Path:
    folder.mkdir()
    for number in range(count):
        if number in bad:
            (folder / f"{number}.mp4").write_bytes(b"nonsense")
        else:
            write_clip(folder / f"{number}.mp4", 20 * number)
        (folder / f"{number}.txt").write_text(f"clip {number}")
    return folder


def test_every_cut_of_every_clip_and_picture_is_there_once(t2v_start: Path, tmp_path: Path) -> None:
    task = task_config(CacheConfig(folder=str(tmp_path), variants=3))
    filled = fill(task, t2v_start)
    assert filled == Filled(added=5 * 3 + 4, found=0, left_out=0, finished=True)
    kept = cuts(tmp_path)
    expected = [(f"sprites:0/video/{clip}", number) for clip in range(5) for number in range(3)]
    expected += [(f"sprites:0/image/{clip}", 0) for clip in range(4)]
    validation = [("sprites:0/video/0", 0), ("sprites:0/video/1", 0)]
    assert [one for one in kept if one not in expected] == []
    assert len(kept) == len(expected) + 2
    assert set(validation) <= set(kept)
    captions = [record["caption"] for record in records(tmp_path) if "fps" not in record and "caption" in record]
    assert len(captions) == len(set(captions))
    assert "" in captions


def test_what_is_there_is_not_computed_again(
    t2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_config(CacheConfig(folder=str(tmp_path), variants=2))
    fill(task, t2v_start)
    files = sorted(tmp_path.glob("*.safetensors"))
    monkeypatch.setattr(filling, "open_decoder", lambda *_: pytest.fail("something is decoded"))
    assert fill(task, t2v_start) == Filled(added=0, found=14, left_out=0)
    assert sorted(tmp_path.glob("*.safetensors")) == files


def test_more_variants_and_more_clips_add_what_is_missing(t2v_start: Path, tmp_path: Path) -> None:
    fill(task_config(CacheConfig(folder=str(tmp_path), variants=2), CLIPS), t2v_start)
    more = task_config(CacheConfig(folder=str(tmp_path), variants=3), CLIPS, PICTURES)
    more = replace(more, data=replace(more.data, image_share=0.5))
    assert fill(more, t2v_start) == Filled(added=5 + 4, found=10, left_out=0)


def test_of_training_on_one_clip_that_one_alone_is_kept(t2v_start: Path, tmp_path: Path) -> None:
    task = task_config(CacheConfig(folder=str(tmp_path), variants=2), CLIPS)
    task = replace(task, data=replace(task.data, one_clip=True))
    assert fill(task, t2v_start) == Filled(added=2, found=0, left_out=0)
    assert {key for key, _ in cuts(tmp_path)} == {"sprites:0/video/0"}


@pytest.mark.parametrize(("num_workers", "looks"), [(0, 9), (1, 12)])
def test_a_filling_that_was_stopped_again_and_again_comes_to_the_same_end(
    t2v_start: Path, tmp_path: Path, num_workers: int, looks: int
) -> None:
    task = task_config(CacheConfig(folder=str(tmp_path), variants=2), CLIPS)
    task = replace(task, data=replace(task.data, num_workers=num_workers, start_method="fork"))
    runs = 1
    while not (filled := fill(task, t2v_start, looks=looks)).finished:
        assert filled.added > 0 or filled.found > 0
        runs += 1
        assert runs < 20
    assert runs > 1
    kept = cuts(tmp_path)
    assert len(kept) == len(set(kept)) + 2 == 12


@pytest.mark.parametrize("count", [2, 3, 7])
def test_processes_share_the_work_and_nothing_is_done_twice(t2v_start: Path, tmp_path: Path, count: int) -> None:
    task = task_config(CacheConfig(folder=str(tmp_path), variants=2))
    shares = [fill(task, t2v_start, share=Share(index, count)) for index in range(count)]
    assert sum(share.added for share in shares) == 14
    assert all(share.found == 0 for share in shares)
    kept = cuts(tmp_path)
    assert len(kept) == 14 + 2


def test_few_archives_are_shared_by_their_clips(t2v_start: Path, tmp_path: Path) -> None:
    clips = clip_folder(tmp_path / "clips", 5)
    with tarfile.open(tmp_path / "clips.tar", "w") as archive:
        for path in sorted(clips.iterdir()):
            archive.add(path, path.name)
    task = task_config(CacheConfig(folder=str(tmp_path / "kept"), variants=1), str(tmp_path / "clips.tar"))
    shares = [fill(task, t2v_start, share=Share(index, 3)) for index in range(3)]
    assert [share.added for share in shares] == [2, 2, 1]


def test_what_cannot_be_used_is_kept_as_that_and_named(t2v_start: Path, tmp_path: Path) -> None:
    clips = clip_folder(tmp_path / "clips", 4, bad=(2,))
    kept = tmp_path / "kept"
    task = task_config(CacheConfig(folder=str(kept), variants=2), str(clips))
    assert fill(task, t2v_start) == Filled(added=6, found=0, left_out=2)
    (named,) = [json.loads(line) for line in (kept / "left_out.jsonl").read_text().splitlines()]
    assert (named["key"], named["reason"]) == ("2.mp4", "unreadable")
    assert fill(task, t2v_start) == Filled(added=0, found=8, left_out=0)
    write_clip(clips / "2.mp4")
    assert fill(task, t2v_start, check=True) == Filled(added=0, found=8, left_out=0)
    assert fill(task, t2v_start, retry=True) == Filled(added=2, found=6, left_out=0)
    assert fill(task, t2v_start, retry=True) == Filled(added=0, found=8, left_out=0)


@pytest.mark.parametrize("part", ["mean", "std", "text", "record"])
def test_damage_is_mended_by_a_check(t2v_start: Path, tmp_path: Path, part: str) -> None:
    task = task_config(CacheConfig(folder=str(tmp_path), variants=2), CLIPS)
    fill(task, t2v_start)
    whole = kept(task, t2v_start)
    assert all(cut is not None for cut in whole)
    path = next(tmp_path.glob("*.safetensors"))
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    damaged = bytearray(content)
    for key, place in header.items():
        if key.endswith(f"/{part}"):
            damaged[8 + length + place["data_offsets"][0]] ^= 255
    path.unlink()
    path.write_bytes(damaged)
    assert kept(task, t2v_start) == [None] * 10
    assert fill(task, t2v_start).added == 0, "entries are read only with check"
    assert 5 <= fill(task, t2v_start, check=True).added <= 10
    for repaired, before in zip(kept(task, t2v_start), whole, strict=True):
        assert torch.equal(repaired.mean, before.mean)  # type: ignore[union-attr]
        assert torch.equal(repaired.text, before.text)  # type: ignore[union-attr]


def kept(task: ClipDiffusionTaskConfig, start: Path) -> list[EncodedCut | None]:
    """Reopen the cache; return both cuts of each clip of the first source."""
    description = describe(
        task.data.cutting, sources_of(start), condition_frame="random", network_dtype="fp32", dtype="bf16"
    )
    cache, source = ClipCache(task.cache, description), open_source(task.data.sources[0])
    found: list[EncodedCut | None] = []
    for shard, number in itertools.product(range(source.num_shards), range(2)):
        clip = source.read_shard(shard).clips[0]
        name = fixed_cut(source.label, clip, source.kind, number, task.data.cutting).name
        assert name is not None
        known = cache.find(name)
        found.append(known.content if isinstance(known, CachedCut) else None)  # type: ignore[arg-type]
    return found


def test_too_many_bad_clips_stop_it(t2v_start: Path, tmp_path: Path) -> None:
    clips = clip_folder(tmp_path / "clips", 8, bad=tuple(range(8)))
    task = task_config(CacheConfig(folder=str(tmp_path / "kept")), str(clips))
    strict = replace(task, data=replace(task.data, bad_samples=type(task.data.bad_samples)()))
    with pytest.raises(TooManyBadSamplesError, match="unreadable"):
        fill(strict, t2v_start)


def test_what_was_encoded_before_an_error_is_kept(
    t2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_config(CacheConfig(folder=str(tmp_path), variants=1), CLIPS)
    original = filling._Filling._encode
    calls: list[int] = []

    def fail(self: object, first: object, what: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        original(self, first, what)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(filling._Filling, "_encode", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            fill(task, t2v_start)
    assert fill(task, t2v_start) == Filled(added=2, found=3, left_out=0)


def test_stages_with_the_same_cache_are_filled_once() -> None:
    both = RECIPES["i2v-512"]()
    with_cache = replace(
        both,
        stages=tuple(
            replace(stage, task=replace(stage.task, cache=CacheConfig(folder="kept")))  # type: ignore[arg-type]
            for stage in both.stages
        ),
    )
    assert [stage.name for stage in stages_to_fill(with_cache)] == ["mapping"]
    apart = replace(with_cache.stages[1], task=replace(with_cache.stages[1].task, cache=CacheConfig(folder="x")))  # type: ignore[arg-type]
    assert len(stages_to_fill(replace(with_cache, stages=(with_cache.stages[0], apart)))) == 2


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda start, folder: RECIPES["smoke"](), "renders its own clips"),
        (lambda start, folder: recipe(start, task_config(CacheConfig())), "--cache DIR"),
        (
            lambda start, folder: replace(recipe(start, task_config(CacheConfig(folder=folder))), init=None),
            "pass --init FOLDER",
        ),
        (
            lambda start, folder: recipe(
                start,
                replace(
                    task_config(CacheConfig(folder=folder)),
                    data=replace(task_config(CacheConfig()).data, sources=()),
                ),
            ),
            "sources is empty",
        ),
    ],
)
def test_what_cannot_be_filled_is_refused(t2v_start: Path, tmp_path: Path, build: object, said: str) -> None:
    with pytest.raises(CacheError, match=said):
        fill_caches(build(t2v_start, str(tmp_path / "kept")), device="cpu")  # type: ignore[operator]
