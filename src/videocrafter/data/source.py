"""What every data source looks like from outside, and how one is configured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from videocrafter.data.clip import Clip, Kind


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Clips that are read together.

    Attributes:
        clips: in the order of the file; always the same ones.
        problem: what is wrong with the shard as a whole, in one line; the clips before the damage are there.
    """

    clips: Sequence[Clip]
    problem: str | None = None


class ClipSource(Protocol):
    """An open source: captioned clips of one kind, in shards.

    A shard is what one process gets as a whole. A manifest has as many shards as clips; of archives each is one.
    """

    @property
    def label(self) -> str:
        """What messages and reports call it."""

    @property
    def kind(self) -> Kind:
        """What it holds."""

    @property
    def num_shards(self) -> int:
        """At least 1."""

    @property
    def shards_together(self) -> int:
        """How many shards are read at once and shuffled into each other."""

    def read_shard(self, index: int) -> Shard:
        """Read shard `index`, from 0. Damage is reported in the shard, not raised."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig(ABC):
    """What a source is made from.

    Attributes:
        weight: how often it is drawn from, relative to the other sources of its kind.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight!r}, expected a number above 0")

    @abstractmethod
    def open(self) -> ClipSource:
        """Look at the source; everything that is wrong with it as a whole is found here.

        Raises:
            SourceError: it cannot be used as described.
        """


def check_kind(kind: Kind | None) -> None:
    """Refuse what is neither of the kinds of clips, nor None.

    Raises:
        ValueError: it is something else.
    """
    if kind not in ("video", "image", None):
        raise ValueError(f"kind is {kind!r}, expected 'video' or 'image'")
