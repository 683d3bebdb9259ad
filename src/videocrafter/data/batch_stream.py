"""The deterministic sequence of batches, and the position from which it can be resumed.

Nothing here depends on time or on the number of workers. The position after a batch contains everything that the next
batch depends on.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from videocrafter.data.bad_samples import BadSamples
from videocrafter.data.cached_cuts import FixedCuts, fixed_cut
from videocrafter.data.clip import Clip, Kind
from videocrafter.data.cutting import CachedCut, CutClip, CutName, CuttingConfig
from videocrafter.data.decoding import ClipDecoder, DecodingTask
from videocrafter.data.errors import BadSampleError
from videocrafter.data.loader_state import State
from videocrafter.data.order import Draw, MixedOrder, Position, ShardProblem, SourcePosition
from videocrafter.data.sample import VideoBatch, pixels_of
from videocrafter.data.shuffling import fraction_from, seed_from
from videocrafter.data.source import ClipSource

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Samples of one kind: their order and batch size."""

    kind: Kind
    order: MixedOrder
    batch_size: int


class BatchStream:
    """Draws samples, submits them for decoding, and collects those of one shape into batches.

    Args:
        sources: sources by the number that draws refer to.
        lanes: videos, images, or both.
        image_share: fraction of batches that are images. A batch has the same kind in all processes.
        seed: determines the kinds of batches and the cut of each clip.
        decoder: decodes clips.
        bad_samples: counts skipped samples.
        ahead: number of batches to decode in advance.
        least_ahead: smallest number of samples to keep in flight.
        cuts: fixed cuts of clips, and the config that determines them; None cuts clips anew in every epoch.
    """

    def __init__(
        self,
        *,
        sources: Sequence[ClipSource],
        lanes: Sequence[Lane],
        image_share: float,
        seed: int,
        decoder: ClipDecoder,
        bad_samples: BadSamples,
        ahead: int,
        least_ahead: int,
        cuts: tuple[FixedCuts, CuttingConfig] | None = None,
    ) -> None:
        self._cuts = cuts
        self._sources, self._decoder, self._bad_samples = sources, decoder, bad_samples
        self._image_share, self._seed, self._ahead, self._least_ahead = image_share, seed, ahead, least_ahead
        self._numbers = iter(range(1 << 62))
        self._flows = {lane.kind: _LaneState(lane) for lane in lanes}
        self._num_batches = 0
        self.decoding_seconds = 0.0

    def next(self) -> VideoBatch | None:
        """Return the next batch, or None after the last epoch. The last batches of each shape may be smaller.

        Raises:
            TooManyBadSamplesError: more samples were skipped than the rules allow.
            SourceError: a source has no readable sample.
        """
        while open_flows := {kind: flow for kind, flow in self._flows.items() if not flow.is_over}:
            kind = self._kind_of(self._num_batches)
            flow = open_flows.get(kind) or next(iter(open_flows.values()))
            self._look_ahead(flow)
            if not flow.in_flight:
                leftover = flow.take_leftover()
                if leftover is not None:
                    return self._batch(leftover)
                continue
            full = self._receive(flow)
            if full is not None:
                return self._batch(full)
        for flow in self._flows.values():
            self._report(flow.lane.order.take_problems())
        if self._num_batches == 0 and self._bad_samples.counts:  # with few shards a process may get no sample at all
            _log.warning("No sample of the data can be used: %s", dict(self._bad_samples.counts))
        return None

    def state(self) -> State:
        """Return the position of the next batch, as JSON values."""
        return {
            "num_batches": self._num_batches,
            "flows": {kind: flow.state() for kind, flow in self._flows.items()},
            "bad_samples": self._bad_samples.state(),
        }

    def load(self, state: State) -> None:
        """Resume from `state`. Call it before the first batch."""
        self._num_batches = state["num_batches"]
        for kind, flow in self._flows.items():
            flow.load(state["flows"][kind])
        self._bad_samples.load(state["bad_samples"])

    def _kind_of(self, number: int) -> Kind:
        return "image" if fraction_from(self._seed, "kind", number) < self._image_share else "video"

    def _look_ahead(self, current: _LaneState) -> None:
        """Keep enough samples in flight for the next batches."""
        coming = Counter(self._kind_of(self._num_batches + later) for later in range(self._ahead + 1))
        for kind, flow in self._flows.items():
            wanted = coming[kind] * flow.lane.batch_size
            if flow is current:
                wanted = max(wanted, self._least_ahead)
            while len(flow.in_flight) < wanted and (drawn := flow.draw()) is not None:
                self._submit(flow, drawn)

    def _submit(self, flow: _LaneState, drawn: _Drawn) -> None:
        drawn.clip = flow.lane.order.clip(drawn.draw)
        drawn.task = self._task(drawn.draw, drawn.clip, flow.lane.kind)
        drawn.number = next(self._numbers)
        self._decoder.submit(drawn.number, drawn.task)
        flow.in_flight.append(drawn)

    def _task(self, draw: Draw, clip: Clip, kind: Kind) -> DecodingTask:
        if self._cuts is None:
            seed = seed_from(self._seed, "cut", draw.source, draw.epoch, draw.shard, draw.item)
            return DecodingTask(clip=clip, kind=kind, seed=seed)
        fixed, cutting = self._cuts
        return fixed_cut(self._sources[draw.source].label, clip, kind, draw.epoch % fixed.count(kind), cutting)

    def _receive(self, flow: _LaneState) -> list[_Cut] | None:
        """Take the next sample in order. Return the batch that it completes, or None."""
        drawn = flow.in_flight.popleft()
        result = self._decoder.take(drawn.number)
        flow.position = drawn.position_after
        self._report(drawn.problems)
        self.decoding_seconds += result.seconds
        assert drawn.clip is not None
        assert drawn.task is not None
        label = self._sources[drawn.draw.source].label
        if isinstance(result.outcome, BadSampleError):
            if not drawn.is_redrawn:
                self._bad_samples.bad(label, drawn.clip.key, result.outcome.reason, str(result.outcome))
            return None
        if not drawn.is_redrawn:
            self._bad_samples.good()
        key = f"{label}/{drawn.clip.key}"
        return flow.gather(_Cut(draw=drawn.draw, clip=result.outcome, key=key, name=drawn.task.name))

    def _report(self, problems: Sequence[ShardProblem]) -> None:
        for problem in problems:
            label = self._sources[problem.source].label
            self._bad_samples.bad(label, f"shard {problem.shard}", "damaged_archive", problem.message)

    def _batch(self, cuts: list[_Cut]) -> VideoBatch:
        self._num_batches += 1
        cached = tuple(cut.clip.content if isinstance(cut.clip, CachedCut) else None for cut in cuts)
        return VideoBatch(
            pixels=pixels_of([cut.clip for cut in cuts]),
            captions=tuple(cut.clip.caption for cut in cuts),
            fps=torch.tensor([cut.clip.fps for cut in cuts], dtype=torch.float32),
            keys=tuple(cut.key for cut in cuts),
            cuts=tuple(cut.name for cut in cuts if cut.name is not None),
            cached=cached if any(content is not None for content in cached) else (),
        )


@dataclass(kw_only=True)
class _Drawn:
    """A sample in flight.

    Attributes:
        position_after: position after the sample.
        problems: damaged shards encountered before it.
        is_redrawn: whether it was drawn, and counted, before a resume.
    """

    draw: Draw
    position_after: Position
    problems: Sequence[ShardProblem] = ()
    is_redrawn: bool = False
    clip: Clip | None = None
    task: DecodingTask | None = None
    number: int = -1


@dataclass(frozen=True, kw_only=True)
class _Cut:
    draw: Draw
    clip: CutClip | CachedCut
    key: str
    name: CutName | None


class _LaneState:
    """State of a lane: samples drawn, in flight, and gathered by shape."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.position = self._drawn_to = lane.order.start()
        self.in_flight: deque[_Drawn] = deque()
        self._pending: deque[Draw] = deque()
        self._gathered: dict[tuple[int, ...], list[_Cut]] = {}
        self._at_end = False

    @property
    def is_over(self) -> bool:
        """Whether the lane has no more samples."""
        return self._at_end and not self.in_flight and not self._gathered

    def draw(self) -> _Drawn | None:
        """Return the next sample, or None at the end."""
        if self._pending:
            return _Drawn(draw=self._pending.popleft(), position_after=self._drawn_to, is_redrawn=True)
        found = None if self._at_end else self.lane.order.next(self._drawn_to)
        if found is None:
            self._at_end = True
            return None
        self._drawn_to = found[1]
        return _Drawn(draw=found[0], position_after=found[1], problems=self.lane.order.take_problems())

    def gather(self, cut: _Cut) -> list[_Cut] | None:
        """Add a sample to those of its shape. Return them once they fill a batch."""
        shape = cut.clip.shape
        gathered = self._gathered.setdefault(shape, [])
        gathered.append(cut)
        return self._gathered.pop(shape) if len(gathered) == self.lane.batch_size else None

    def take_leftover(self) -> list[_Cut] | None:
        """Return an incomplete batch at the end, one shape per call."""
        if not self._gathered:
            return None
        return self._gathered.pop(next(iter(self._gathered)))

    def state(self) -> State:
        """Return the position, and the earlier samples that are in no batch yet, ordered within each shape."""
        gathered = [cut.draw for cuts in self._gathered.values() for cut in cuts]
        redrawn = [drawn.draw for drawn in self.in_flight if drawn.is_redrawn] + list(self._pending)
        pending = [[draw.source, draw.epoch, draw.shard, draw.item] for draw in gathered + redrawn]
        return {"position": asdict(self.position), "pending": pending}

    def load(self, state: State) -> None:
        """Resume from `state`. Gathered samples are decoded again."""
        position = state["position"]
        self.position = self._drawn_to = Position(
            block=position["block"],
            offset=position["offset"],
            counts=tuple(position["counts"]),
            places=tuple(SourcePosition(**place) for place in position["places"]),
        )
        self._pending = deque(
            Draw(source=source, epoch=epoch, shard=shard, item=item)
            for source, epoch, shard, item in state["pending"]
        )
