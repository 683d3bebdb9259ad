"""Which sample comes next: shuffled, mixed by weight, and dealt to processes so that none is seen twice in an epoch.

Everything follows from the seed and a position of a few integers. The shards of a source (single clips of a
manifest, or archives) form an endless row: epoch after epoch, each in its own order. Of W processes, process r
takes shards r, r + W, r + 2W, … of that row, so no shard of an epoch is taken twice, however many there are.
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
"""Within so many draws every source gets its share, to within one draw."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a source a process stands: `unit` counts the shards that it took, `offset` the clips of the window.

    first: how many shards of the endless row all processes together had taken before they began to count.
    """

    first: int = 0
    unit: int = 0
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where in a mixture a process stands.

    Attributes:
        block, offset: draws are counted in blocks.
        counts: draws of each source before this block.
        places: where each source is.
    """

    block: int = 0
    offset: int = 0
    counts: tuple[int, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One sample of a mixture: `item` of a shard of a source, in an epoch of that source."""

    source: int
    epoch: int
    shard: int
    item: int


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A shard that is damaged; its clips before the damage follow."""

    source: int
    shard: int
    message: str


class SourceOrder:
    """The endless row of one source's clips, as one process sees it."""

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
        # Draws that were made before a break are looked up again after it, several of them in one archive.
        self._read_shard = lru_cache(maxsize=source.shards_together + 4)(source.read_shard)
        self._window: _Window | None = None
        self._num_empty = 0
        self.problems: list[Problem] = []

    def next(self, place: Place) -> tuple[Draw, Place] | None:
        """The clip at a place and the place behind it; None behind the last epoch.

        Raises:
            SourceError: no shard of a whole epoch holds a clip that can be read.
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
                    return draw, Place(first=place.first, unit=place.unit, offset=place.offset + 1)
                return draw, Place(first=place.first, unit=window.next_unit)
            self._num_empty += window.next_unit - window.unit
            if self._num_empty > self._source.num_shards:
                raise SourceError(f"{self._source.label}: no shard holds a sample that can be read; check the files")
            place = Place(first=place.first, unit=window.next_unit)

    def clip(self, shard: int, item: int) -> Clip:
        """One clip."""
        clips = self._read_shard(shard).clips
        if item >= len(clips):
            return BrokenClip(key=f"shard {shard}, sample {item}", reason="missing", message="the shard has shrunk")
        return clips[item]

    def _window_at(self, place: Place) -> _Window | None:
        """The shards that are shuffled into each other at a place: several in a row, of one epoch."""
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
            if content.problem is not None and place.offset == 0:  # else it was told before a break
                self.problems.append(Problem(source=self._number, shard=shard, message=content.problem))
            unit += 1
        self._window = _Window(first=place.first, unit=place.unit, next_unit=unit, epoch=epoch, sizes=sizes)
        return self._window

    def _shard_at(self, first: int, unit: int) -> tuple[int, int]:
        """Epoch and shard that this process takes as its unit-th."""
        epoch, position = divmod(first + self._rank + unit * self._world_size, self._source.num_shards)
        if not self._shuffle:
            return epoch, position
        return epoch, shuffled_index(position, self._source.num_shards, seed_from(self._seed, self._number, epoch))


class _Window:
    def __init__(self, *, first: int, unit: int, next_unit: int, epoch: int, sizes: dict[int, int]) -> None:
        self.first, self.unit, self.next_unit, self.epoch = first, unit, next_unit, epoch
        self.items = [(shard, item) for shard, size in sizes.items() for item in range(size)]


class MixedOrder:
    """Several sources drawn from by weight, as one process sees them.

    Args:
        sources: by their number, which the draws refer to.
        weights: relative; above 0.
        seed: decides every order.
        shuffle: whether there is any; without, sources are still mixed.
        rank, world_size: which process of how many.
        epochs: how often each source is gone through; None never ends.
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
        """Where every process begins."""
        return Position(counts=(0,) * len(self._numbers), places=(Place(),) * len(self._numbers))

    def next(self, position: Position) -> tuple[Draw, Position] | None:
        """The sample at a position and the position behind it; None where every source is at its end."""
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
        """The clip that was drawn."""
        return self._orders[draw.source].clip(draw.shard, draw.item)

    def take_problems(self) -> list[Problem]:
        """Damaged shards that were met since the last call."""
        found = [problem for order in self._orders.values() for problem in order.problems]
        for order in self._orders.values():
            order.problems.clear()
        return found

    def _choices(self, block: int, counts: tuple[int, ...]) -> list[int]:
        """Which source each draw of a block takes: shares as exact as they can be, in random order."""
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
