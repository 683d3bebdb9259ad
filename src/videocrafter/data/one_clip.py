"""A source reduced to its first clip, for overfitting a single clip."""

from __future__ import annotations

from videocrafter.data.clip import Kind
from videocrafter.data.source import ClipShard, ClipSource


class OneClip:
    """The first clip of a source, as a source of its own."""

    num_shards = shards_together = 1

    def __init__(self, source: ClipSource) -> None:
        self._source = source
        self.label: str = source.label
        self.kind: Kind = source.kind

    def read_shard(self, index: int) -> ClipShard:
        """Return the first clip, with the problem of its shard."""
        shards = (self._source.read_shard(number) for number in range(self._source.num_shards))
        empty = ClipShard(clips=(), problem="the source has no clips")
        found = next((shard for shard in shards if shard.clips), empty)
        return ClipShard(clips=found.clips[:1], problem=found.problem)
