"""A configurable source of stub clips, for loaders."""

from dataclasses import dataclass

from tests.unit.data.stub_clips import StubClip, StubSource
from videocrafter.data.clip import Kind
from videocrafter.data.source import SourceConfig


@dataclass(frozen=True, kw_only=True)
class StubConfig(SourceConfig):
    """`count` clips, every `bad_every`-th of which fails as `does` says."""

    count: int = 20
    kind: Kind = "video"
    first: int = 0
    bad_every: int = 0
    does: str = "bad"
    label: str = "stub"

    def open(self) -> StubSource:
        clips = [
            StubClip(
                number=self.first + index,
                does=self.does if self.bad_every and index % self.bad_every == 1 else "good",
                size=((12, 16), (16, 12))[index % 2],
            )
            for index in range(self.count)
        ]
        return StubSource([[clip] for clip in clips], kind=self.kind, label=self.label)
