"""A source cut down to its first clip, to learn that one by heart."""

from __future__ import annotations

from videocrafter.data.clip import Kind
from videocrafter.data.source import ClipSource, Shard


class OneClip:
    """The first clip of a source, as a source of its own."""

    num_shards = shards_together = 1

    def __init__(self, source: ClipSource) -> None:
        self._source = source
        self.label: str = source.label
        self.kind: Kind = source.kind

    def read_shard(self, index: int) -> Shard:
        """The one shard: the first clip, and the problem of the shard that it is in."""
        shards = (self._source.read_shard(number) for number in range(self._source.num_shards))
        found = next((shard for shard in shards if shard.clips), Shard(clips=(), problem="it holds no clip"))
        return Shard(clips=found.clips[:1], problem=found.problem)
