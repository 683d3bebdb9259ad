"""Batches depend neither on how much is decoded in advance nor on interruptions, for clips of all shapes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.stub_clips import CUTTING, StubClip, StubSource, table
from videocrafter.data.bad_samples import BadSampleRules, BadSamples
from videocrafter.data.batch_stream import BatchStream, Lane
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.decoding import InProcessDecoder, cut_task
from videocrafter.data.errors import TooManyBadSamplesError
from videocrafter.data.loader_state import State
from videocrafter.data.order import MixedOrder
from videocrafter.data.sample import VideoBatch


def stream(
    sources: list[StubSource],
    *,
    batch_size: int = 3,
    image_share: float = 0.0,
    rank: int = 0,
    world_size: int = 1,
    epochs: int | None = None,
    ahead: int = 1,
    least_ahead: int = 1,
    rules: BadSampleRules | None = None,
    cutting: CuttingConfig = CUTTING,
) -> BatchStream:
    def order(kind: str) -> MixedOrder:
        chosen = {number: source for number, source in enumerate(sources) if source.kind == kind}
        weights = [1.0 + number for number in chosen]
        return MixedOrder(chosen, weights, seed=5, shuffle=True, rank=rank, world_size=world_size, epochs=epochs)

    lanes = [
        Lane(kind=kind, order=order(kind), batch_size=size)
        for kind, size in (("video", batch_size), ("image", batch_size + 1))
        if any(source.kind == kind for source in sources)
    ]
    return BatchStream(
        sources=sources,
        lanes=lanes,
        image_share=image_share,
        seed=5,
        decoder=InProcessDecoder(partial(cut_task, config=cutting)),
        bad_samples=BadSamples(rules or BadSampleRules(max_bad_share=1.0, max_left_out_share=1.0)),
        ahead=ahead,
        least_ahead=least_ahead,
    )


def many_shapes(count: int = 30) -> StubSource:
    """Clips of three shapes and many lengths, some of them bad or too short."""
    sizes = ((12, 16), (16, 12), (12, 12))
    clips = [
        StubClip(
            number=index,
            size=sizes[index % 3],
            num_frames=1 + index * 7 % 20,
            does="bad" if index % 7 == 3 else "good",
        )
        for index in range(count)
    ]
    return StubSource([clips[:11], [], clips[11:]], shards_together=2, damaged=[1], label="shapes")


def pictures(count: int = 9) -> StubSource:
    return table(count, first=100, kind="image", label="pictures")


def take(batches: BatchStream, count: int) -> list[tuple[object, ...]]:
    """Return the identities of batches, pixels included."""
    found = [batches.next() for _ in range(count)]
    return [
        (batch.keys, batch.captions, tuple(batch.fps.tolist()), batch.pixels.shape, batch.pixels.sum().item())
        for batch in found
        if batch is not None
    ]


@given(
    ahead=st.integers(1, 5),
    least_ahead=st.integers(1, 40),
    rank=st.integers(0, 2),
    image_share=st.sampled_from([0.3, 0.7]),
)
def test_batches_do_not_depend_on_how_far_is_decoded_ahead(
    ahead: int, least_ahead: int, rank: int, image_share: float
) -> None:
    def anew(**how: int) -> BatchStream:
        return stream(
            [many_shapes(), table(5, 50), pictures()], image_share=image_share, rank=rank, world_size=3, **how
        )

    assert take(anew(ahead=ahead, least_ahead=least_ahead), 12) == take(anew(), 12)


@given(
    stops=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    ahead=st.integers(1, 3),
    least_ahead=st.integers(1, 20),
    batch_size=st.integers(1, 4),
    rank=st.integers(0, 1),
)
def test_interrupted_batches_are_those_of_an_uninterrupted_run(
    stops: list[int], ahead: int, least_ahead: int, batch_size: int, rank: int
) -> None:
    def anew(**how: int) -> BatchStream:
        sources = [many_shapes(), table(5, 50), pictures()]
        return stream(sources, image_share=0.4, batch_size=batch_size, rank=rank, world_size=2, **how)

    whole = anew()
    expected = take(whole, sum(stops))
    found: list[tuple[object, ...]] = []
    state: State | None = None
    for number, stop in enumerate(stops):
        part = anew(ahead=ahead, least_ahead=least_ahead + number)
        if state is not None:
            part.load(state)
        found += take(part, stop)
        state = json.loads(json.dumps(part.state()))
    assert found == expected
    # The counts are equal, too: samples decoded again are not counted again.
    assert state == json.loads(json.dumps(whole.state()))


def test_a_batch_holds_one_kind_and_one_shape_and_says_the_true_rates() -> None:
    batches = stream([many_shapes(), pictures()], image_share=0.5)
    kinds = Counter()
    for _ in range(40):
        batch = batches.next()
        assert batch is not None
        assert batch.pixels.dtype.is_floating_point
        assert batch.pixels.shape[2] == 3
        assert -1 <= batch.pixels.min() <= batch.pixels.max() <= 1
        is_image = batch.num_frames == 1
        assert len(batch) == (4 if is_image else 3)
        assert all(key.startswith("pictures/" if is_image else "shapes/") for key in batch.keys)
        assert [caption == key.partition("/")[2] for caption, key in zip(batch.captions, batch.keys, strict=True)]
        if not is_image:
            check_frames_against_rates(batch)
        kinds[is_image] += 1
    assert 10 <= kinds[True] <= 30


def check_frames_against_rates(batch: VideoBatch) -> None:
    """Check fps against the frame numbers that the stubs encode in green; of 8 fps, every second frame is 4 fps."""
    numbers = ((batch.pixels[:, :, 1, 0, 0] + 1) * 127.5).round()
    strides = numbers[:, 1:] - numbers[:, :-1]
    assert (strides == (8 / batch.fps)[:, None]).all()


def test_all_processes_have_the_same_kind_at_the_same_batch() -> None:
    kinds = []
    for rank in range(3):
        batches = stream([many_shapes(), pictures()], image_share=0.5, rank=rank, world_size=3)
        kinds.append([batch.num_frames == 1 for batch in (batches.next() for _ in range(20)) if batch is not None])
    assert kinds[0] == kinds[1] == kinds[2]
    assert set(kinds[0]) == {True, False}


@given(world_size=st.integers(1, 4), batch_size=st.integers(1, 4), epochs=st.integers(1, 2))
def test_a_finite_run_gives_every_usable_sample_once_an_epoch_over_all_processes(
    world_size: int, batch_size: int, epochs: int
) -> None:
    # Whether a clip is too short must not depend on the rate drawn for it.
    cutting = replace(CUTTING, sampling=replace(CUTTING.sampling, short_clips="lower_stride"))
    seen: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for rank in range(world_size):
        batches = stream(
            [many_shapes(), pictures(20)],
            image_share=0.5,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            epochs=epochs,
            cutting=cutting,
        )
        while (batch := batches.next()) is not None:
            seen.update(batch.keys)
        counts.update(batches._bad_samples.counts)
    assert set(seen.values()) == {epochs}
    assert sum(key.startswith("pictures/") for key in seen) == 20
    bad, usable = counts["unreadable"], sum(key.startswith("shapes/") for key in seen)
    assert bad == 4 * epochs
    assert counts["too_short"] == 2 * epochs
    assert usable == 30 - 4 - 2
    assert counts["damaged_archive"] == epochs


def test_too_many_bad_samples_end_it() -> None:
    bad = StubSource([[StubClip(number=index, does="bad")] for index in range(20)])
    with pytest.raises(TooManyBadSamplesError, match="unreadable: 4"):
        stream([bad], rules=BadSampleRules()).next()


def test_a_pass_without_a_single_usable_sample_ends_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    bad = StubSource([[StubClip(number=index, does="bad")] for index in range(5)])
    assert stream([bad], epochs=1).next() is None
    assert "No sample of the data can be used: {'unreadable': 5}" in caplog.text


def test_a_lane_without_sources_does_not_exist() -> None:
    only = stream([replace_kind(table(6), "image")], image_share=1.0)
    assert {batch.num_frames for batch in (only.next() for _ in range(5)) if batch is not None} == {1}


def replace_kind(source: StubSource, kind: str) -> StubSource:
    clips = [[replace(clip) for clip in shard] for shard in source.shards]
    return StubSource(clips, kind=kind)  # type: ignore[arg-type]
