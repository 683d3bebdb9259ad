"""The interface of data sources, and the base class of their configurations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from videocrafter.data.clip import Clip, Kind
from videocrafter.data.locations import expand_home


@dataclass(frozen=True, kw_only=True)
class ClipShard:
    """Clips that are read together.

    Attributes:
        clips: in the order of the file; the same in every read.
        problem: one line on what is wrong with the shard, or None. `clips` then holds those before the damage.
        ignored: numbers of members that belong to no clip, by the rule that ignores them.
    """

    clips: Sequence[Clip]
    problem: str | None = None
    ignored: Mapping[str, int] = field(default_factory=dict)


class ClipSource(Protocol):
    """An open source: captioned clips of one kind, in shards.

    Shards are the unit in which clips are distributed over processes. Every clip of a manifest is a shard; every
    archive is one.
    """

    @property
    def label(self) -> str:
        """Name in messages and reports."""

    @property
    def kind(self) -> Kind:
        """Kind of the clips."""

    @property
    def num_shards(self) -> int:
        """Number of shards; at least 1."""

    @property
    def shards_together(self) -> int:
        """Number of shards that are read at once and shuffled together."""

    def read_shard(self, index: int) -> ClipShard:
        """Read shard `index`, from 0. Damage is reported in the shard, not raised."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig(ABC):
    """Configuration of a source. A leading ~ in `path` and `root` is the home folder.

    Attributes:
        weight: sampling weight relative to the other sources of the same kind.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight!r}, expected a number above 0")
        for name in ("path", "root"):
            if isinstance(value := getattr(self, name, None), str):
                object.__setattr__(self, name, expand_home(value))

    @abstractmethod
    def open(self) -> ClipSource:
        """Open the source and check it as a whole.

        Raises:
            SourceError: the source cannot be used as described.
        """


def check_kind(kind: Kind | None) -> None:
    """Check the kind of a source.

    Raises:
        ValueError: the kind is neither "video" nor "image" nor None.
    """
    if kind not in ("video", "image", None):
        raise ValueError(f"kind is {kind!r}, expected 'video' or 'image'")
