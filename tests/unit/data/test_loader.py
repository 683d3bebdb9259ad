"""Batches do not depend on the workers, a loader resumes exactly, and nothing runs after it is closed."""

from __future__ import annotations

import gc
import itertools
import json
import threading
import time
from pathlib import Path

import pytest

from tests.unit.data.stub_sources import StubConfig
from videocrafter.data import loader as loader_module
from videocrafter.data.bad_samples import BadSampleRules
from videocrafter.data.clip import DecodingLimits
from videocrafter.data.clip_sampling import ClipSampling
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.errors import SourceError, TooManyBadSamplesError
from videocrafter.data.loader import VideoLoader
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.data.loader_state import redistribute_states
from videocrafter.data.sample import VideoBatch

CUTTING = CuttingConfig(
    sampling=ClipSampling(lengths=(4,), fps_range=(2.0, 8.0)), height=8, width=8, max_aspect=2.0, size_step=4
)
MIXED = (
    StubConfig(bad_every=6),
    StubConfig(count=7, first=50, weight=0.5, label="other"),
    StubConfig(kind="image", label="stills"),
)


def config(**changes) -> LoaderConfig:
    defaults = {
        "sources": MIXED,
        "batch_size": 3,
        "image_share": 0.4,
        "cutting": CUTTING,
        "num_workers": 0,
        "start_method": "fork",
        "bad_samples": BadSampleRules(max_bad_share=1.0),
    }
    return LoaderConfig(**{**defaults, **changes})


def identity(batch: VideoBatch) -> tuple[object, ...]:
    return batch.keys, batch.captions, tuple(batch.fps.tolist()), batch.pixels.shape, batch.pixels.sum().item()


def take(loader: VideoLoader, count: int) -> list[tuple[object, ...]]:
    return [identity(batch) for batch in itertools.islice(loader, count)]


def test_batches_are_the_same_for_any_number_of_workers_and_any_way_to_start_them() -> None:
    found = []
    for num_workers, start_method, prefetch in ((0, "fork", 1), (1, "fork", 3), (3, "fork", 2), (2, "spawn", 2)):
        rules = config(num_workers=num_workers, start_method=start_method, prefetch_batches=prefetch)
        with VideoLoader(rules, rank=1, world_size=3) as loader:
            found.append(take(loader, 10))
    assert found[1:] == found[:1] * 3


def test_an_interrupted_run_resumes_exactly_with_other_workers() -> None:
    with VideoLoader(config()) as loader:
        whole = take(loader, 14)
        end = loader.state_dict()
    found: list[tuple[object, ...]] = []
    state = VideoLoader(config()).state_dict()
    for num_workers, count in ((0, 3), (2, 5), (1, 1), (0, 5)):
        with VideoLoader(config(num_workers=num_workers)) as loader:
            loader.load_state_dict(json.loads(json.dumps(state)))
            assert loader.state_dict() == state
            found += take(loader, count)
            state = loader.state_dict()
    assert found == whole
    assert state == end


def test_a_finite_run_ends_and_stays_at_its_end() -> None:
    with VideoLoader(config(sources=(StubConfig(count=5),), image_share=None, epochs=2)) as loader:
        batches = list(loader)
        assert list(loader) == []
    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == 10
    assert len(set(keys)) == 5


def test_a_process_that_gets_no_sample_just_ends() -> None:
    rules = config(sources=(StubConfig(count=2),), image_share=None, epochs=1)
    batches = []
    for rank in range(3):
        with VideoLoader(rules, rank=rank, world_size=3) as loader:
            batches.append(len(list(loader)))
    assert sorted(batches) == [0, 1, 1]


def test_stats() -> None:
    with VideoLoader(config(num_workers=1)) as loader:
        before = loader.stats()
        assert (before.frames_per_s, before.wait_share) == (0, 0)
        taken = list(itertools.islice(loader, 8))
        time.sleep(0.2)
        stats = loader.stats()
    assert stats.batches == 8
    assert stats.samples == sum(len(batch) for batch in taken)
    assert stats.frames == sum(len(batch) * batch.num_frames for batch in taken)
    assert 0 < stats.wait_share < 1
    assert stats.frames_per_s == pytest.approx(stats.frames / stats.seconds)
    assert stats.decoding_s > 0
    assert stats.left_out["unreadable"] >= 1


def test_decoders_that_hang_or_die_are_named_and_the_rest_arrives(tmp_path: Path) -> None:
    report = tmp_path / "bad.jsonl"
    rules = config(
        sources=(
            StubConfig(count=6, bad_every=4, does="hangs"),
            StubConfig(count=6, first=10, bad_every=4, does="dies"),
        ),
        image_share=None,
        epochs=1,
        num_workers=2,
        cutting=CuttingConfig(sampling=CUTTING.sampling, height=8, width=8, limits=DecodingLimits(time_limit_s=0.2)),
        bad_samples=BadSampleRules(max_bad_share=1.0, report=str(report)),
    )
    with VideoLoader(rules) as loader:
        captions = {caption for batch in loader for caption in batch.captions}
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert {(line["key"], line["reason"]) for line in lines} == {
        ("clip 1", "too_slow"),
        ("clip 5", "too_slow"),
        ("clip 11", "crashed"),
        ("clip 15", "crashed"),
    }
    assert captions == {f"clip {number}" for number in (0, 2, 3, 4, 10, 12, 13, 14)}


def test_too_many_bad_samples_are_raised_by_next() -> None:
    bad = StubConfig(count=30, bad_every=2)
    with VideoLoader(config(sources=(bad,), image_share=None, bad_samples=BadSampleRules())) as loader:
        with pytest.raises(TooManyBadSamplesError, match=r"max_bad_share allows 5\.0%"):
            list(itertools.islice(loader, 100))
        assert list(loader) == []


def test_each_process_writes_a_report_of_its_own(tmp_path: Path) -> None:
    rules = BadSampleRules(max_bad_share=1.0, report=str(tmp_path / "bad.jsonl"))
    for rank in range(2):
        sources = (StubConfig(count=24, bad_every=6),)
        with VideoLoader(
            config(sources=sources, image_share=None, epochs=1, bad_samples=rules), rank=rank, world_size=2
        ) as loader:
            list(loader)
    reports = [(tmp_path / f"bad.rank{rank}.jsonl").read_text(encoding="utf-8").splitlines() for rank in range(2)]
    named = {json.loads(line)["key"] for line in itertools.chain(*reports)}
    assert named == {f"clip {number}" for number in (1, 7, 13, 19)}


def test_closing_does_not_wait_until_a_full_queue_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_POLL_SECONDS", 3600.0)
    loader = VideoLoader(config(prefetch_batches=1))
    next(loader)
    while not loader._ready.full():
        time.sleep(0.01)
    closing = threading.Thread(target=loader.close, daemon=True)
    closing.start()
    closing.join(timeout=60)
    assert not closing.is_alive()


def test_nothing_runs_on_after_a_loader_is_closed_or_forgotten() -> None:
    before = threading.active_count()
    loader = VideoLoader(config(num_workers=1))
    next(loader)
    loader.close()
    loader.close()
    assert list(loader) == []
    assert threading.active_count() == before
    loader = VideoLoader(config(num_workers=1))
    next(loader)
    del loader
    gc.collect()
    assert threading.active_count() == before


def test_processes_can_become_more_or_fewer_and_still_see_no_sample_twice() -> None:
    sources = (StubConfig(count=200),)
    rules = config(sources=sources, image_share=None, batch_size=2)
    seen: list[str] = []
    states = []
    for rank, count in ((0, 5), (1, 3), (2, 8)):
        with VideoLoader(rules, rank=rank, world_size=3) as loader:
            seen += [key for batch in itertools.islice(loader, count) for key in batch.keys]
            states.append(loader.state_dict())
    redistributed = redistribute_states(states[::-1], 2)
    for rank in range(2):
        with VideoLoader(rules, rank=rank, world_size=2) as loader:
            loader.load_state_dict(redistributed[rank])
            seen += [key for batch in itertools.islice(loader, 20) for key in batch.keys]
    assert len(seen) == len(set(seen)) == 32 + 80
    with pytest.raises(ValueError, match=r"states are from ranks \[0, 2\]"):
        redistribute_states([states[0], states[2]], 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"sources": (StubConfig(count=21),)}, "num_shards of source stub was 20 and is 21"),
        ({"sources": (StubConfig(), StubConfig())}, "number of sources was 1 and is 2"),
        ({"sources": (StubConfig(weight=2.0),)}, "weight of source stub"),
    ],
)
def test_a_position_of_another_loader_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    rules = {"sources": (StubConfig(),), "image_share": None}
    state = VideoLoader(config(**rules)).state_dict()
    with pytest.raises(ValueError, match=message):
        VideoLoader(config(**{**rules, **changes})).load_state_dict(state)
    with pytest.raises(ValueError, match="world_size was 1 and is 2"):
        VideoLoader(config(**rules), world_size=2).load_state_dict(state)


def test_a_position_is_loaded_before_the_first_batch_or_not_at_all() -> None:
    with VideoLoader(config()) as loader:
        state = loader.state_dict()
        next(loader)
        with pytest.raises(RuntimeError, match="before the first batch"):
            loader.load_state_dict(state)
    with pytest.raises(ValueError, match="not the state of a loader"):
        VideoLoader(config()).load_state_dict({"step": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_share": None}, "image_share is not set"),
        ({"image_share": 0.0}, "the image sources would never be used"),
        ({"image_share": 1.0}, "the video sources would never be used"),
        ({"sources": (StubConfig(),), "image_share": 0.5}, "all sources contain videos"),
        ({"sources": ()}, "expected at least one"),
        ({"sources": "folder:/data"}, "expected a tuple"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"image_share": 1.5}, "from 0 to 1"),
        ({"start_method": "thread"}, "'spawn', 'fork' or 'forkserver'"),
    ],
)
def test_wrong_configurations_are_refused_before_the_first_sample(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoLoader(config(**changes))


def test_a_source_that_is_not_there_is_named_before_the_first_sample(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        VideoLoader(config(sources=(f"folder:{tmp_path}/nowhere",), image_share=None))


def test_a_rank_outside_its_world_is_refused() -> None:
    with pytest.raises(ValueError, match="rank is 2 of world_size 2"):
        VideoLoader(config(), rank=2, world_size=2)
