"""A source reduced to one clip yields nothing else."""

from __future__ import annotations

from tests.unit.data.stub_clips import StubClip, StubSource
from tests.unit.data.stub_sources import StubConfig
from tests.unit.data.test_loader import config
from videocrafter.data.loader import VideoLoader
from videocrafter.data.one_clip import OneClip


def test_the_first_clip_is_found_behind_empty_shards() -> None:
    source = StubSource([[], [StubClip(number=3), StubClip(number=4)], [StubClip(number=5)]])
    one = OneClip(source)
    assert (one.label, one.kind, one.num_shards, one.shards_together) == (source.label, "video", 1, 1)
    assert [clip.key for clip in one.read_shard(0).clips] == [StubClip(number=3).key]


def test_a_source_without_clips_says_so() -> None:
    shard = OneClip(StubSource([[], []])).read_shard(0)
    assert (list(shard.clips), shard.problem) == ([], "the source has no clips")


def test_a_loader_gives_the_first_clip_of_the_first_source_to_every_process() -> None:
    sources = (StubConfig(first=7), StubConfig(first=100, kind="image"))
    for rank in range(2):
        with VideoLoader(config(sources=sources, one_clip=True, image_share=None), rank=rank, world_size=2) as loader:
            keys = {key for _, batch in zip(range(4), loader, strict=False) for key in batch.keys}
        assert keys == {f"stub/{StubClip(number=7).key}"}
