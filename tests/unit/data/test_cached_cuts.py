"""Cached cuts are not decoded again; order, batches, bad samples and positions stay the same."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.stub_clips import CUTTING, StubClip
from tests.unit.data.stub_sources import StubConfig
from videocrafter.data.bad_samples import BadSampleRules
from videocrafter.data.cached_cuts import CachedDecoder, FixedCuts, fixed_cut
from videocrafter.data.clip import BrokenClip, DecodingLimits
from videocrafter.data.cutting import CachedCut
from videocrafter.data.decoding import DecodingStoppedError, DecodingTask, InProcessDecoder, cut_task
from videocrafter.data.errors import BadSampleError
from videocrafter.data.loader import VideoLoader
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.data.locations import Location
from videocrafter.data.media_clip import CaptionFile, MediaClip
from videocrafter.data.sample import VideoBatch
from videocrafter.data.sources.sprite_clips import SpriteClipsConfig

CUTS = FixedCuts(per_video=2)
SOURCES = (
    StubConfig(count=9, bad_every=4),
    StubConfig(count=4, first=50, weight=0.5, label="other"),
    StubConfig(count=5, kind="image", label="stills"),
)


def config(**changes: object) -> LoaderConfig:
    defaults = {
        "sources": SOURCES,
        "batch_size": 3,
        "image_share": 0.4,
        "cutting": CUTTING,
        "num_workers": 0,
        "bad_samples": BadSampleRules(max_bad_share=1.0, max_left_out_share=1.0),
    }
    return LoaderConfig(**{**defaults, **changes})


class PixelCache:
    """Caches sums of pixels. It reports the cuts in `lost` as known, but cannot return them."""

    def __init__(self) -> None:
        self.kept: dict[str, CachedCut | BadSampleError] = {}
        self.lost: set[str] = set()
        self.recalled: list[str] = []

    def keep(self, batch: VideoBatch) -> None:
        """Store the decoded cuts. In a second epoch some are already cached when the loader reaches them."""
        fresh = iter(batch.pixels)
        for index, (name, cached) in enumerate(
            zip(batch.cuts, batch.cached or [None] * len(batch.cuts), strict=True)
        ):
            if cached is not None:
                continue
            pixels = next(fresh)
            shape = (pixels.shape[0], *pixels.shape[2:], 3)
            fps = batch.fps[index].item()
            self.kept[name.digest] = CachedCut(
                shape=shape, caption=batch.captions[index], fps=fps, content=pixels.sum().item()
            )

    def knows(self, task: DecodingTask) -> bool:
        assert task.name is not None
        return task.name.digest in self.kept or task.name.digest in self.lost

    def recall(self, task: DecodingTask) -> CachedCut | BadSampleError | None:
        assert task.name is not None
        self.recalled.append(task.name.digest)
        return self.kept.get(task.name.digest)

    def note_bad(self, task: DecodingTask, error: BadSampleError) -> None:
        assert task.name is not None
        self.kept[task.name.digest] = error


def identities(batch: VideoBatch) -> tuple[object, ...]:
    """Return the identity of a batch, whether its pixels are decoded or cached."""
    fresh = iter(batch.pixels)
    sums = [
        next(fresh).sum().item() if content is None else content
        for content in batch.cached or [None] * len(batch.keys)
    ]
    return batch.keys, batch.captions, tuple(batch.fps.tolist()), batch.pixels.shape[1:], tuple(sums), batch.cuts


Run = list[tuple[tuple[object, ...], dict[str, object]]]


def run(
    count: int, rules: LoaderConfig, cache: PixelCache | None = None, state: object = None, **changes: int
) -> Run:
    """Return batches, and the position after each."""
    with VideoLoader(rules, cuts=CUTS, cache=cache, **changes) as loader:
        if state is not None:
            loader.load_state_dict(json.loads(json.dumps(state)))
        return [(identities(batch), loader.state_dict()) for batch in itertools.islice(loader, count)]


@pytest.fixture(scope="module")
def whole() -> Run:
    """Batches of several epochs, decoded."""
    return run(30, config())


@pytest.fixture(scope="module")
def kept() -> dict[str, CachedCut | BadSampleError]:
    """All cuts."""
    cache = PixelCache()
    with VideoLoader(config(epochs=2), cuts=CUTS, cache=cache) as loader:
        for batch in loader:
            cache.keep(batch)
    return cache.kept


def filled(kept: dict[str, CachedCut | BadSampleError]) -> PixelCache:
    cache = PixelCache()
    cache.kept = dict(kept)
    return cache


def test_a_cut_comes_again_after_as_many_epochs_as_there_are_cuts() -> None:
    rules = config(sources=(StubConfig(count=3),), image_share=None, batch_size=1, shuffle=False)
    found = [batch for batch, _ in run(12, rules)]
    assert found[:6] == found[6:]
    by_epoch = [[(batch[2], batch[4]) for batch in found[first : first + 3]] for first in (0, 3)]
    assert by_epoch[0] != by_epoch[1], "cuts differ between the epochs"


def test_an_image_has_one_cut_by_default() -> None:
    rules = config(sources=(SOURCES[2],), image_share=None, batch_size=5, shuffle=False)
    first, second = (batch for batch, _ in run(2, rules))
    assert first == second


def test_a_cut_depends_neither_on_the_seed_nor_on_processes_nor_on_other_sources() -> None:
    def cuts(**changes: object) -> dict[object, object]:
        ranks = range(changes.pop("world_size", 1))  # type: ignore[arg-type]
        rules = config(batch_size=1, epochs=2, **changes)
        batches = [batch for rank in ranks for batch, _ in run(99, rules, rank=rank, world_size=len(ranks))]
        return {batch[5]: (batch[2], batch[3], batch[4]) for batch in batches if "stub/" in batch[0][0]}  # type: ignore[index]

    alone = cuts(sources=SOURCES[:1], image_share=None)
    assert len(alone) > 10
    assert cuts(seed=7) == cuts(world_size=2) == cuts(sources=SOURCES[::-1]) == alone


CLIP = MediaClip(key="a.mp4", kind="video", media=Location(url="/data/a.mp4"), caption="a cat")


@pytest.mark.parametrize(
    "other",
    [
        {"label": "folder:/other"},
        {"kind": "image"},
        {"number": 1},
        {"clip": replace(CLIP, media=Location(url="/other/a.mp4"))},
        {"clip": replace(CLIP, media=Location(url="/data/a.mp4", offset=512, size=9))},
        {"clip": replace(CLIP, caption="a dog")},
        {"clip": replace(CLIP, caption=CaptionFile(location=Location(url="/data/a.txt")))},
        {"clip": replace(CLIP, start_s=1.5)},
        {"clip": replace(CLIP, end_s=1.5)},
        {"clip": BrokenClip(key="a.mp4", reason="missing", message="it does not exist")},
        {"clip": SpriteClipsConfig().open().read_shard(0).clips[0]},
        {"cutting": replace(CUTTING, height=16, width=16)},
        {"cutting": replace(CUTTING, crop="center")},
        {"cutting": replace(CUTTING, sampling=replace(CUTTING.sampling, start="first"))},
    ],
)
def test_the_name_of_a_cut_holds_all_that_it_follows_from(other: dict[str, object]) -> None:
    same = {"label": "folder:/data", "clip": CLIP, "kind": "video", "number": 0, "cutting": CUTTING}
    task = fixed_cut(**same)  # type: ignore[arg-type]
    assert fixed_cut(**{**same, **other}).name.digest != task.name.digest  # type: ignore[arg-type, union-attr]
    patient = replace(CUTTING, limits=DecodingLimits(time_limit_s=99))
    assert fixed_cut(**{**same, "cutting": patient}) == task  # type: ignore[arg-type]


def test_worlds_that_differ_have_other_clips() -> None:
    clips = [SpriteClipsConfig(height=size, width=size).open().read_shard(3).clips[0] for size in (32, 64)]
    names = [fixed_cut("sprites", clip, "video", 0, CUTTING).name for clip in clips]
    assert names[0] != names[1]


def test_a_clip_that_cannot_be_described_has_no_fixed_cuts() -> None:
    class Odd:
        key = "odd"

        def open(self, limits: DecodingLimits) -> None:
            """Never called."""

    with pytest.raises(TypeError, match="Odd is not a dataclass"):
        fixed_cut("label", Odd(), "video", 0, CUTTING)  # type: ignore[arg-type]


def test_with_everything_cached_nothing_is_opened_and_no_worker_starts(
    whole: Run, kept: dict[str, CachedCut | BadSampleError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a clip is decoded, or a worker started")

    monkeypatch.setattr(StubClip, "open", refuse)
    monkeypatch.setattr("videocrafter.data.loader.open_decoder", refuse)
    cache = filled(kept)
    assert run(30, config(num_workers=3), cache) == whole
    assert sum(isinstance(cache.kept[name], BadSampleError) for name in cache.recalled) > 3


@given(data=st.data())
def test_batches_and_positions_do_not_depend_on_the_cache(
    data: st.DataObject, whole: Run, kept: dict[str, CachedCut | BadSampleError]
) -> None:
    names = sorted(kept)
    cache = PixelCache()
    cache.kept = {name: kept[name] for name in data.draw(st.lists(st.sampled_from(names), unique=True))}
    cache.lost = set(data.draw(st.lists(st.sampled_from(names), unique=True)))
    stop = data.draw(st.integers(0, 15))
    prefetch = data.draw(st.integers(1, 3))
    first = run(stop, config(prefetch_batches=prefetch), cache)
    state = first[-1][1] if first else None
    assert first + run(15 - stop, config(), cache, state) == whole[:15]


def test_skipped_cuts_are_skipped_and_reported_again(
    tmp_path: Path, kept: dict[str, CachedCut | BadSampleError]
) -> None:
    reports = []
    for name, cache in (("decoded", None), ("cached", filled(kept))):
        rules = BadSampleRules(max_bad_share=1.0, max_left_out_share=1.0, report=str(tmp_path / name))
        run(20, config(bad_samples=rules), cache)
        reports.append((tmp_path / name).read_text(encoding="utf-8"))
    assert reports[0] == reports[1]
    assert {json.loads(line)["reason"] for line in reports[0].splitlines()} == {"unreadable"}


def test_a_batch_of_cached_cuts_has_no_pixels_but_a_shape(
    kept: dict[str, CachedCut | BadSampleError],
) -> None:
    with VideoLoader(config(), cuts=CUTS, cache=filled(kept)) as loader:
        batch = next(loader)
    assert batch.pixels.shape[0] == 0
    assert batch.pixels.shape[2] == 3
    assert len(batch) == len(batch.cached) == len(batch.cuts)
    assert batch.num_frames == batch.pixels.shape[1]
    with VideoLoader(config(), cuts=CUTS) as loader:
        batch = next(loader)
    assert (len(batch.pixels), batch.cached) == (3, ())


def test_a_stopped_decoder_raises(kept: dict[str, CachedCut | BadSampleError]) -> None:
    made: list[InProcessDecoder] = []

    def decode(task: DecodingTask) -> object:
        return cut_task(task, CUTTING)

    def make() -> InProcessDecoder:
        made.append(InProcessDecoder(decode))  # type: ignore[arg-type]
        return made[-1]

    decoder = CachedDecoder(PixelCache(), make)
    decoder.submit(0, fixed_cut("label", StubClip(number=1), "video", 0, CUTTING))
    assert not isinstance(decoder.take(0).outcome, BadSampleError)
    decoder.submit(1, fixed_cut("label", StubClip(number=2), "video", 0, CUTTING))
    decoder.stop()
    for stopped in (decoder, made[0]):
        with pytest.raises(DecodingStoppedError):
            stopped.take(1)
    decoder.close()
    assert len(made) == 1
    CachedDecoder(PixelCache(), make).close()


@pytest.mark.parametrize(("per_video", "per_image"), [(0, 1), (1, 0)])
def test_a_clip_has_at_least_one_cut(per_video: int, per_image: int) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        FixedCuts(per_video=per_video, per_image=per_image)


def test_a_cache_without_fixed_cuts_is_refused() -> None:
    with pytest.raises(ValueError, match="pass cuts, too"):
        VideoLoader(config(), cache=PixelCache())
