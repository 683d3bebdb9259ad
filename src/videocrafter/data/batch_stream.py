"""Batches in their one true order: which samples, in which buckets, and where to go on after a break.

Nothing here depends on time or on the number of workers. The position behind each batch says all that the next one
depends on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from videocrafter.data.bad_samples import BadSamples
from videocrafter.data.clip import Clip, Kind
from videocrafter.data.cutting import CutClip, CutName, CuttingConfig, KnownCut
from videocrafter.data.decoding import Decoding, Task
from videocrafter.data.errors import BadSampleError, TooManyBadSamplesError
from videocrafter.data.known_cuts import FixedCuts, fixed_cut
from videocrafter.data.order import Draw, MixedOrder, Place, Position, Problem
from videocrafter.data.sample import VideoBatch, pixels_of
from videocrafter.data.shuffling import fraction_from, seed_from
from videocrafter.data.source import ClipSource

State = dict[str, Any]
"""JSON values."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One kind of samples: their order and how many make a batch."""

    kind: Kind
    order: MixedOrder
    batch_size: int


class BatchStream:
    """Draws samples, has them decoded, and gathers those of one shape until they make a batch.

    Args:
        sources: by the number that draws refer to.
        lanes: videos, images, or both.
        image_share: the share of batches that are images. All processes have the same kind at the same batch.
        seed: decides orders and how each clip is cut.
        decoding: does the work.
        bad_samples: counts what is left out.
        ahead: batches whose samples are decoded before they are asked for.
        least_ahead: samples that are always under way.
        cuts: the fixed cuts of clips, and the rules of cutting that they follow from; None cuts anew every epoch.
    """

    def __init__(
        self,
        *,
        sources: Sequence[ClipSource],
        lanes: Sequence[Lane],
        image_share: float,
        seed: int,
        decoding: Decoding,
        bad_samples: BadSamples,
        ahead: int,
        least_ahead: int,
        cuts: tuple[FixedCuts, CuttingConfig] | None = None,
    ) -> None:
        self._cuts = cuts
        self._sources, self._decoding, self._bad_samples = sources, decoding, bad_samples
        self._image_share, self._seed, self._ahead, self._least_ahead = image_share, seed, ahead, least_ahead
        self._numbers = iter(range(1 << 62))
        self._flows = {lane.kind: _Flow(lane) for lane in lanes}
        self._num_batches = 0
        self.num_frames, self.decoding_seconds = 0, 0.0

    def next(self) -> VideoBatch | None:
        """The next batch; None behind the last epoch, where the last batches of each shape may be smaller.

        Raises:
            TooManyBadSamplesError, SourceError: the data cannot be used.
        """
        while open_flows := {kind: flow for kind, flow in self._flows.items() if not flow.is_over}:
            kind = self._kind_of(self._num_batches)
            flow = open_flows.get(kind) or next(iter(open_flows.values()))
            self._look_ahead(flow)
            if not flow.under_way:
                leftover = flow.take_leftover()
                if leftover is not None:
                    return self._batch(leftover)
                continue
            full = self._receive(flow)
            if full is not None:
                return self._batch(full)
        for flow in self._flows.values():
            self._report(flow.lane.order.take_problems())
        if self._num_batches == 0 and self._bad_samples.counts:  # a process may also have got no sample at all
            raise TooManyBadSamplesError(f"no sample could be used: {dict(self._bad_samples.counts)}; mend the data")
        return None

    def state(self) -> State:
        """Where the next batch begins."""
        return {
            "num_batches": self._num_batches,
            "flows": {kind: flow.state() for kind, flow in self._flows.items()},
            "bad_samples": self._bad_samples.state(),
        }

    def load(self, state: State) -> None:
        """Go on from `state`, before the first batch was asked for."""
        self._num_batches = state["num_batches"]
        for kind, flow in self._flows.items():
            flow.load(state["flows"][kind])
        self._bad_samples.load(state["bad_samples"])

    def _kind_of(self, number: int) -> Kind:
        return "image" if fraction_from(self._seed, "kind", number) < self._image_share else "video"

    def _look_ahead(self, current: _Flow) -> None:
        """Have enough samples under way for the batches that come next."""
        coming = Counter(self._kind_of(self._num_batches + later) for later in range(self._ahead + 1))
        for kind, flow in self._flows.items():
            wanted = coming[kind] * flow.lane.batch_size
            if flow is current:
                wanted = max(wanted, self._least_ahead)
            while len(flow.under_way) < wanted and (drawn := flow.draw()) is not None:
                self._submit(flow, drawn)

    def _submit(self, flow: _Flow, drawn: _Drawn) -> None:
        drawn.clip = flow.lane.order.clip(drawn.draw)
        drawn.task = self._task(drawn.draw, drawn.clip, flow.lane.kind)
        drawn.number = next(self._numbers)
        self._decoding.submit(drawn.number, drawn.task)
        flow.under_way.append(drawn)

    def _task(self, draw: Draw, clip: Clip, kind: Kind) -> Task:
        if self._cuts is None:
            seed = seed_from(self._seed, "cut", draw.source, draw.epoch, draw.shard, draw.item)
            return Task(clip=clip, kind=kind, seed=seed)
        fixed, cutting = self._cuts
        return fixed_cut(self._sources[draw.source].label, clip, kind, draw.epoch % fixed.count(kind), cutting)

    def _receive(self, flow: _Flow) -> list[_Cut] | None:
        """Take the next sample in order; the batch that it completes, if any."""
        drawn = flow.under_way.popleft()
        answer = self._decoding.take(drawn.number)
        flow.position = drawn.behind
        self._report(drawn.problems)
        self.decoding_seconds += answer.seconds
        assert drawn.clip is not None
        assert drawn.task is not None
        label = self._sources[drawn.draw.source].label
        if isinstance(answer.result, BadSampleError):
            if not drawn.is_again:
                self._bad_samples.bad(label, drawn.clip.key, answer.result.reason, str(answer.result))
            return None
        if not drawn.is_again:
            self._bad_samples.good()
        self.num_frames += answer.result.shape[0]
        key = f"{label}/{drawn.clip.key}"
        return flow.gather(_Cut(draw=drawn.draw, clip=answer.result, key=key, name=drawn.task.name))

    def _report(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            label = self._sources[problem.source].label
            self._bad_samples.bad(label, f"shard {problem.shard}", "damaged_archive", problem.message)

    def _batch(self, cuts: list[_Cut]) -> VideoBatch:
        self._num_batches += 1
        known = tuple(cut.clip.content if isinstance(cut.clip, KnownCut) else None for cut in cuts)
        return VideoBatch(
            pixels=pixels_of([cut.clip for cut in cuts]),
            captions=tuple(cut.clip.caption for cut in cuts),
            fps=torch.tensor([cut.clip.fps for cut in cuts], dtype=torch.float32),
            keys=tuple(cut.key for cut in cuts),
            cuts=tuple(cut.name for cut in cuts if cut.name is not None),
            known=known if any(content is not None for content in known) else (),
        )


@dataclass(kw_only=True)
class _Drawn:
    """A sample under way.

    Attributes:
        behind: the position after it.
        problems: damaged shards that were met on the way to it.
        is_again: whether it was counted before a break.
    """

    draw: Draw
    behind: Position
    problems: Sequence[Problem] = ()
    is_again: bool = False
    clip: Clip | None = None
    task: Task | None = None
    number: int = -1


@dataclass(frozen=True, kw_only=True)
class _Cut:
    draw: Draw
    clip: CutClip | KnownCut
    key: str
    name: CutName | None


class _Flow:
    """The state of a lane: drawn up to here, received up to there, gathered by shape in between."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.position = self._drawn_to = lane.order.start()
        self.under_way: deque[_Drawn] = deque()
        self._again: deque[Draw] = deque()
        self._gathered: dict[tuple[int, ...], list[_Cut]] = {}
        self._at_end = False

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self._at_end and not self.under_way and not self._gathered

    def draw(self) -> _Drawn | None:
        """The next sample; None at the end."""
        if self._again:
            return _Drawn(draw=self._again.popleft(), behind=self._drawn_to, is_again=True)
        found = None if self._at_end else self.lane.order.next(self._drawn_to)
        if found is None:
            self._at_end = True
            return None
        self._drawn_to = found[1]
        return _Drawn(draw=found[0], behind=found[1], problems=self.lane.order.take_problems())

    def gather(self, cut: _Cut) -> list[_Cut] | None:
        """Put a sample to those of its shape; all of them once they make a batch."""
        shape = cut.clip.shape
        gathered = self._gathered.setdefault(shape, [])
        gathered.append(cut)
        return self._gathered.pop(shape) if len(gathered) == self.lane.batch_size else None

    def take_leftover(self) -> list[_Cut] | None:
        """At the end: what never became a whole batch, one shape at a time."""
        if not self._gathered:
            return None
        return self._gathered.pop(next(iter(self._gathered)))

    def state(self) -> State:
        """The position, and the samples in front of it that no batch has yet, in their order within each shape."""
        gathered = [cut.draw for cuts in self._gathered.values() for cut in cuts]
        again = [drawn.draw for drawn in self.under_way if drawn.is_again] + list(self._again)
        pending = [[draw.source, draw.epoch, draw.shard, draw.item] for draw in gathered + again]
        return {"position": asdict(self.position), "pending": pending}

    def load(self, state: State) -> None:
        """Go on from `state`: what was gathered is decoded once more."""
        position = state["position"]
        self.position = self._drawn_to = Position(
            block=position["block"],
            offset=position["offset"],
            counts=tuple(position["counts"]),
            places=tuple(Place(**place) for place in position["places"]),
        )
        self._again = deque(
            Draw(source=source, epoch=epoch, shard=shard, item=item)
            for source, epoch, shard, item in state["pending"]
        )
