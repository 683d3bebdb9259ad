"""What is known of a cut is not decoded again, and nothing else changes: order, batches, bad samples, positions."""

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
from videocrafter.data.clip import BrokenClip, DecodingLimits
from videocrafter.data.cutting import KnownCut
from videocrafter.data.decoding import DecodingHere, DecodingStoppedError, Task, cut_task
from videocrafter.data.errors import BadSampleError
from videocrafter.data.known_cuts import FixedCuts, RecallingDecoding, fixed_cut
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


class Memory:
    """Keeps the pixels themselves; the cuts in `lost` are said to be known and then are not."""

    def __init__(self) -> None:
        self.kept: dict[str, KnownCut | BadSampleError] = {}
        self.lost: set[str] = set()
        self.asked: list[str] = []

    def keep(self, batch: VideoBatch) -> None:
        """Keep the cuts that were decoded; of a second epoch some are known when the loader gets to them."""
        fresh = iter(batch.pixels)
        for index, (name, known) in enumerate(zip(batch.cuts, batch.known or [None] * len(batch.cuts), strict=True)):
            if known is not None:
                continue
            pixels = next(fresh)
            shape = (pixels.shape[0], *pixels.shape[2:], 3)
            fps = batch.fps[index].item()
            self.kept[name.digest] = KnownCut(
                shape=shape, caption=batch.captions[index], fps=fps, content=pixels.sum().item()
            )

    def knows(self, task: Task) -> bool:
        assert task.name is not None
        return task.name.digest in self.kept or task.name.digest in self.lost

    def recall(self, task: Task) -> KnownCut | BadSampleError | None:
        assert task.name is not None
        self.asked.append(task.name.digest)
        return self.kept.get(task.name.digest)

    def note_bad(self, task: Task, error: BadSampleError) -> None:
        assert task.name is not None
        self.kept[task.name.digest] = error


def identities(batch: VideoBatch) -> tuple[object, ...]:
    """What tells a batch apart, whether its pixels are there or known."""
    fresh = iter(batch.pixels)
    sums = [
        next(fresh).sum().item() if content is None else content
        for content in batch.known or [None] * len(batch.keys)
    ]
    return batch.keys, batch.captions, tuple(batch.fps.tolist()), batch.pixels.shape[1:], tuple(sums), batch.cuts


Run = list[tuple[tuple[object, ...], dict[str, object]]]


def run(count: int, rules: LoaderConfig, memory: Memory | None = None, state: object = None, **changes: int) -> Run:
    """Batches, and the position behind each."""
    with VideoLoader(rules, cuts=CUTS, memory=memory, **changes) as loader:
        if state is not None:
            loader.load_state_dict(json.loads(json.dumps(state)))
        return [(identities(batch), loader.state_dict()) for batch in itertools.islice(loader, count)]


@pytest.fixture(scope="module")
def whole() -> Run:
    """Some epochs, decoded."""
    return run(30, config())


@pytest.fixture(scope="module")
def kept() -> dict[str, KnownCut | BadSampleError]:
    """All cuts there are."""
    memory = Memory()
    with VideoLoader(config(epochs=2), cuts=CUTS, memory=memory) as loader:
        for batch in loader:
            memory.keep(batch)
    return memory.kept


def remembering(kept: dict[str, KnownCut | BadSampleError]) -> Memory:
    memory = Memory()
    memory.kept = dict(kept)
    return memory


def test_a_cut_comes_again_after_as_many_epochs_as_there_are_cuts() -> None:
    rules = config(sources=(StubConfig(count=3),), image_share=None, batch_size=1, shuffle=False)
    found = [batch for batch, _ in run(12, rules)]
    assert found[:6] == found[6:]
    by_epoch = [[(batch[2], batch[4]) for batch in found[first : first + 3]] for first in (0, 3)]
    assert by_epoch[0] != by_epoch[1], "the second epoch cuts otherwise than the first"


def test_an_image_has_one_cut_unless_told_otherwise() -> None:
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
        {"clip": BrokenClip(key="a.mp4", reason="missing", message="it is not there")},
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

    with pytest.raises(TypeError, match="Odd is no dataclass"):
        fixed_cut("label", Odd(), "video", 0, CUTTING)  # type: ignore[arg-type]


def test_with_everything_known_nothing_is_opened_and_no_worker_starts(
    whole: Run, kept: dict[str, KnownCut | BadSampleError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a clip is decoded, or a worker started")

    monkeypatch.setattr(StubClip, "open", refuse)
    monkeypatch.setattr("videocrafter.data.loader.open_decoding", refuse)
    memory = remembering(kept)
    assert run(30, config(num_workers=3), memory) == whole
    assert sum(isinstance(memory.kept[name], BadSampleError) for name in memory.asked) > 3


@given(data=st.data())
def test_whatever_is_known_or_lost_the_batches_and_positions_are_the_same(
    data: st.DataObject, whole: Run, kept: dict[str, KnownCut | BadSampleError]
) -> None:
    names = sorted(kept)
    memory = Memory()
    memory.kept = {name: kept[name] for name in data.draw(st.lists(st.sampled_from(names), unique=True))}
    memory.lost = set(data.draw(st.lists(st.sampled_from(names), unique=True)))
    stop = data.draw(st.integers(0, 15))
    prefetch = data.draw(st.integers(1, 3))
    first = run(stop, config(prefetch_batches=prefetch), memory)
    state = first[-1][1] if first else None
    assert first + run(15 - stop, config(), memory, state) == whole[:15]


def test_what_was_left_out_is_left_out_again_and_named_alike(
    tmp_path: Path, kept: dict[str, KnownCut | BadSampleError]
) -> None:
    reports = []
    for name, memory in (("decoded", None), ("known", remembering(kept))):
        rules = BadSampleRules(max_bad_share=1.0, max_left_out_share=1.0, report=str(tmp_path / name))
        run(20, config(bad_samples=rules), memory)
        reports.append((tmp_path / name).read_text(encoding="utf-8"))
    assert reports[0] == reports[1]
    assert {json.loads(line)["reason"] for line in reports[0].splitlines()} == {"unreadable"}


def test_a_batch_of_known_cuts_only_holds_no_pixels_and_knows_its_shape(
    kept: dict[str, KnownCut | BadSampleError],
) -> None:
    with VideoLoader(config(), cuts=CUTS, memory=remembering(kept)) as loader:
        batch = next(loader)
    assert batch.pixels.shape[0] == 0
    assert batch.pixels.shape[2] == 3
    assert len(batch) == len(batch.known) == len(batch.cuts)
    assert batch.num_frames == batch.pixels.shape[1]
    with VideoLoader(config(), cuts=CUTS) as loader:
        batch = next(loader)
    assert (len(batch.pixels), batch.known) == (3, ())


def test_a_stopped_memory_answers_no_more(kept: dict[str, KnownCut | BadSampleError]) -> None:
    made: list[DecodingHere] = []

    def decode(task: Task) -> object:
        return cut_task(task, CUTTING)

    def make() -> DecodingHere:
        made.append(DecodingHere(decode))  # type: ignore[arg-type]
        return made[-1]

    decoding = RecallingDecoding(Memory(), make)
    decoding.submit(0, fixed_cut("label", StubClip(number=1), "video", 0, CUTTING))
    assert not isinstance(decoding.take(0).result, BadSampleError)
    decoding.submit(1, fixed_cut("label", StubClip(number=2), "video", 0, CUTTING))
    decoding.stop()
    for stopped in (decoding, made[0]):
        with pytest.raises(DecodingStoppedError):
            stopped.take(1)
    decoding.close()
    assert len(made) == 1
    RecallingDecoding(Memory(), make).close()


@pytest.mark.parametrize(("per_video", "per_image"), [(0, 1), (1, 0)])
def test_a_clip_has_at_least_one_cut(per_video: int, per_image: int) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        FixedCuts(per_video=per_video, per_image=per_image)


def test_a_memory_without_fixed_cuts_is_refused() -> None:
    with pytest.raises(ValueError, match="give cuts, too"):
        VideoLoader(config(), memory=Memory())
