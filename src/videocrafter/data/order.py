"""Order of samples: shuffled, mixed by weight, and distributed so that no sample comes twice in an epoch.

The order depends only on the seed and a position of a few integers. The shards of a source (single clips of a
manifest, or archives) form an endless sequence, epoch after epoch, each in its own order. Of W processes, process r
takes shards r, r + W, r + 2W, … of that sequence, so no shard of an epoch is taken twice, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from videocrafter.data.clip import BrokenClip, Clip
from videocrafter.data.errors import SourceError
from videocrafter.data.shuffling import seed_from, shuffled_index
from videocrafter.data.source import ClipSource

_BLOCK = 256
"""Number of draws in which every source gets its share, to within one draw."""


@dataclass(frozen=True, kw_only=True)
class SourcePosition:
    """Position of a process within a source.

    Attributes:
        first: shards of the sequence that all processes together had consumed when counting began.
        unit: shards that this process has taken since.
        offset: clips that it has taken from the current window of shards.
    """

    first: int = 0
    unit: int = 0
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class Position:
    """Position of a process within a mixture.

    Attributes:
        block, offset: number of the block of draws, and of the draw within it.
        counts: draws from each source before this block.
        places: position within each source.
    """

    block: int = 0
    offset: int = 0
    counts: tuple[int, ...]
    places: tuple[SourcePosition, ...]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One sample of a mixture: clip number `item` of a shard, in an epoch of its source."""

    source: int
    epoch: int
    shard: int
    item: int


@dataclass(frozen=True, kw_only=True)
class ShardProblem:
    """A damaged shard."""

    source: int
    shard: int
    message: str


class SourceOrder:
    """The endless sequence of one source's clips for one process."""

    def __init__(
        self,
        source: ClipSource,
        number: int,
        *,
        seed: int,
        shuffle: bool,
        rank: int,
        world_size: int,
        epochs: int | None,
    ) -> None:
        self._source, self._number, self._seed, self._shuffle = source, number, seed, shuffle
        self._rank, self._world_size, self._epochs = rank, world_size, epochs
        # After a resume, previously drawn samples are looked up again, several of them per archive.
        self._read_shard = lru_cache(maxsize=source.shards_together + 4)(source.read_shard)
        self._window: _Window | None = None
        self._num_empty = 0
        self.problems: list[ShardProblem] = []

    def next(self, place: SourcePosition) -> tuple[Draw, SourcePosition] | None:
        """Return the draw at a position and the position after it; None after the last epoch.

        Raises:
            SourceError: no shard of a whole epoch has a readable clip.
        """
        while True:
            window = self._window_at(place)
            if window is None:
                return None
            if place.offset < len(window.items):
                self._num_empty = 0
                chosen = place.offset
                if self._shuffle:
                    seed = seed_from(self._seed, self._number, "window", place.first, window.unit, self._rank)
                    chosen = shuffled_index(chosen, len(window.items), seed)
                shard, item = window.items[chosen]
                draw = Draw(source=self._number, epoch=window.epoch, shard=shard, item=item)
                if place.offset + 1 < len(window.items):
                    return draw, SourcePosition(first=place.first, unit=place.unit, offset=place.offset + 1)
                return draw, SourcePosition(first=place.first, unit=window.next_unit)
            self._num_empty += window.next_unit - window.unit
            if self._num_empty > self._source.num_shards:
                raise SourceError(f"{self._source.label}: no shard has a readable sample; check the files")
            place = SourcePosition(first=place.first, unit=window.next_unit)

    def clip(self, shard: int, item: int) -> Clip:
        """Return clip number `item` of a shard."""
        clips = self._read_shard(shard).clips
        if item >= len(clips):
            return BrokenClip(
                key=f"shard {shard}, sample {item}", reason="missing", message="the shard has fewer clips than before"
            )
        return clips[item]

    def _window_at(self, place: SourcePosition) -> _Window | None:
        """Return the shards that are shuffled together at a position: consecutive ones of one epoch."""
        if self._window is not None and (self._window.first, self._window.unit) == (place.first, place.unit):
            return self._window
        epoch, _ = self._shard_at(place.first, place.unit)
        if self._epochs is not None and epoch >= self._epochs:
            return None
        sizes: dict[int, int] = {}
        unit = place.unit
        while unit < place.unit + self._source.shards_together:
            shard_epoch, shard = self._shard_at(place.first, unit)
            if shard_epoch != epoch:
                break
            content = self._read_shard(shard)
            sizes[shard] = len(content.clips)
            if content.problem is not None and place.offset == 0:  # else it was reported before the resume
                self.problems.append(ShardProblem(source=self._number, shard=shard, message=content.problem))
            unit += 1
        self._window = _Window(first=place.first, unit=place.unit, next_unit=unit, epoch=epoch, sizes=sizes)
        return self._window

    def _shard_at(self, first: int, unit: int) -> tuple[int, int]:
        """Return epoch and index of the shard that this process takes as number `unit`."""
        epoch, position = divmod(first + self._rank + unit * self._world_size, self._source.num_shards)
        if not self._shuffle:
            return epoch, position
        return epoch, shuffled_index(position, self._source.num_shards, seed_from(self._seed, self._number, epoch))


class _Window:
    def __init__(self, *, first: int, unit: int, next_unit: int, epoch: int, sizes: dict[int, int]) -> None:
        self.first, self.unit, self.next_unit, self.epoch = first, unit, next_unit, epoch
        self.items = [(shard, item) for shard, size in sizes.items() for item in range(size)]


class MixedOrder:
    """A weighted mixture of sources for one process.

    Args:
        sources: sources by the number that draws refer to.
        weights: relative weights above 0.
        seed: determines all orders.
        shuffle: shuffle each source. Sources are mixed in either case.
        rank, world_size: rank of this process and number of processes.
        epochs: passes over each source; None is endless.
    """

    def __init__(
        self,
        sources: dict[int, ClipSource],
        weights: Sequence[float],
        *,
        seed: int,
        shuffle: bool,
        rank: int,
        world_size: int,
        epochs: int | None,
    ) -> None:
        self._orders = {
            number: SourceOrder(
                source, number, seed=seed, shuffle=shuffle, rank=rank, world_size=world_size, epochs=epochs
            )
            for number, source in sources.items()
        }
        self._numbers = list(sources)
        self._shares = [weight / math.fsum(weights) for weight in weights]
        self._seed, self._rank = seed, rank
        self._block: tuple[int, tuple[int, ...], list[int]] | None = None

    def start(self) -> Position:
        """Return the position at which every process starts."""
        return Position(counts=(0,) * len(self._numbers), places=(SourcePosition(),) * len(self._numbers))

    def next(self, position: Position) -> tuple[Draw, Position] | None:
        """Return the draw at a position and the position after it; None if every source has ended."""
        ended: set[int] = set()
        while len(ended) < len(self._numbers):
            block, offset, counts = position.block, position.offset, position.counts
            which = self._choices(block, counts)[offset]
            if offset + 1 == _BLOCK:
                choices = self._choices(block, counts)
                block, offset = block + 1, -1
                counts = tuple(count + choices.count(index) for index, count in enumerate(counts))
            found = self._orders[self._numbers[which]].next(position.places[which])
            places = list(position.places)
            if found is not None:
                places[which] = found[1]
            position = Position(block=block, offset=offset + 1, counts=counts, places=tuple(places))
            if found is not None:
                return found[0], position
            ended.add(which)
        return None

    def clip(self, draw: Draw) -> Clip:
        """Return the clip of a draw."""
        return self._orders[draw.source].clip(draw.shard, draw.item)

    def take_problems(self) -> list[ShardProblem]:
        """Return the damaged shards encountered since the last call."""
        found = [problem for order in self._orders.values() for problem in order.problems]
        for order in self._orders.values():
            order.problems.clear()
        return found

    def _choices(self, block: int, counts: tuple[int, ...]) -> list[int]:
        """Return the source of each draw of a block: shares as exact as possible, in random order."""
        if self._block is not None and self._block[:2] == (block, counts):
            return self._block[2]
        owed = [share * (block + 1) * _BLOCK - count for share, count in zip(self._shares, counts, strict=True)]
        chosen: list[int] = []
        while len(chosen) < _BLOCK:
            largest = max(range(len(owed)), key=owed.__getitem__)
            owed[largest] -= 1
            chosen.append(largest)
        seed = seed_from(self._seed, "mixture", *self._numbers, block, self._rank)
        shuffled = [chosen[shuffled_index(index, _BLOCK, seed)] for index in range(_BLOCK)]
        self._block = (block, counts, shuffled)
        return shuffled
