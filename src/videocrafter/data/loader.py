"""Batches for training: drawn, decoded in workers and gathered ahead of time, resumable to the sample.

with VideoLoader(LoaderConfig(sources=("folder:/data/clips",)), rank=0, world_size=1) as loader:
    for batch in loader:
        ...
        state = loader.state_dict()
"""

from __future__ import annotations

import json
import queue
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TypeAlias

from videocrafter.data.bad_samples import BadSamples
from videocrafter.data.batch_stream import BatchStream, Lane, State
from videocrafter.data.clip import Kind
from videocrafter.data.cutting import CutClip
from videocrafter.data.decoding import Decoding, DecodingHere, DecodingStoppedError, Task, cut_task
from videocrafter.data.decoding_pool import DecodingPool
from videocrafter.data.known_cuts import CutMemory, FixedCuts, RecallingDecoding
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.data.loader_state import check_state, fingerprint
from videocrafter.data.one_clip import OneClip
from videocrafter.data.order import MixedOrder
from videocrafter.data.sample import VideoBatch
from videocrafter.data.source import ClipSource, SourceConfig
from videocrafter.data.sources.specs import open_source, parse_source


@dataclass(frozen=True, kw_only=True)
class LoaderStats:
    """How fast batches came since the loader began.

    Attributes:
        batches, samples, frames: delivered.
        seconds: since the first batch was asked for.
        wait_s: of these, spent waiting for a batch.
        decoding_s: spent by all workers together on what was delivered or is ready.
        left_out: samples that were left out, by reason.
    """

    batches: int
    samples: int
    frames: int
    seconds: float
    wait_s: float
    decoding_s: float
    left_out: dict[str, int]

    @property
    def frames_per_s(self) -> float:
        """Frames delivered per second."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    @property
    def wait_share(self) -> float:
        """The share of time spent waiting for data."""
        return self.wait_s / self.seconds if self.seconds > 0 else 0.0


class ImageShareError(ValueError):
    """`image_share` does not fit the kinds of the sources.

    Attributes:
        fitting: a value that does.
    """

    def __init__(self, message: str, fitting: float | None) -> None:
        super().__init__(message)
        self.fitting = fitting


_Ready: TypeAlias = tuple[VideoBatch, State, float]
_Queue: TypeAlias = "queue.Queue[_Ready | BaseException | None]"
# What messages propose.
_USUAL_SHARE = 0.125
# How long the thread that fills the queue waits before it looks whether it shall stop.
_SECONDS_BETWEEN_LOOKS = 0.2


class VideoLoader(Iterator[VideoBatch]):
    """An iterator of batches for one process of several.

    Images and videos never share a batch. At the same batch all processes have the same kind. No sample is seen
    twice in an epoch of its source, by any process.

    Args:
        config: sources, batches, order, workers.
        rank, world_size: which process of how many.
        cuts: clips have so many cuts, which come again; None cuts them anew in every epoch.
        memory: knows what was made of cuts, which then are not decoded; needs `cuts`.

    Raises:
        SourceError: a source cannot be used as described.
        ImageShareError: the configuration does not fit the sources.
    """

    def __init__(
        self,
        config: LoaderConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
        cuts: FixedCuts | None = None,
        memory: CutMemory | None = None,
    ) -> None:
        if memory is not None and cuts is None:
            raise ValueError("a memory is given, but no fixed cuts that it could know; give cuts, too")
        self._cuts = None if cuts is None else (cuts, config.cutting)
        self._memory = memory
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank} of world_size {world_size}, expected 0 to {world_size - 1}")
        if not config.sources:
            raise ValueError("sources is empty, expected at least one, such as folder:/path/to/clips")
        self.config, self._rank, self._world_size = config, rank, world_size
        configs = [parse_source(spec) if isinstance(spec, str) else spec for spec in config.sources]
        self.sources = open_sources(configs, one_clip=config.one_clip)
        self._weights = [source.weight for source in configs[: len(self.sources)]]
        self._image_share = _image_share(config, [source.kind for source in self.sources])
        self._bad_samples = BadSamples(config.bad_samples.of_process(rank, world_size))
        self._decoding: Decoding | None = None
        self._ready: _Queue = queue.Queue(maxsize=config.prefetch_batches)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._state: State | None = None
        self._ended = False
        self._began: float | None = None
        self._wait_s = self._decoding_s = 0.0
        self._batches = self._samples = self._frames = 0

    def __iter__(self) -> VideoLoader:
        return self

    def __next__(self) -> VideoBatch:
        """The next batch.

        Raises:
            StopIteration: behind the last epoch.
            TooManyBadSamplesError: more samples had to be left out than the rules allow.
        """
        started = time.perf_counter()
        if self._ended:
            raise StopIteration
        if self._thread is None:
            self._start()
            self._began = started
        item = self._ready.get()
        if not isinstance(item, tuple):
            self._ended = True
            self.close()
            if item is None:
                raise StopIteration
            raise item
        batch, self._state, self._decoding_s = item
        self._wait_s += time.perf_counter() - started
        self._batches += 1
        self._samples += len(batch)
        self._frames += len(batch) * batch.num_frames
        return batch

    def state_dict(self) -> State:
        """Where the batch after the last one that was delivered begins, as JSON values. One for each process."""
        state = self._state if self._state is not None else self._new_stream(DecodingHere(_no_work)).state()
        # A copy in JSON's own types, so that nothing changes it and saving it changes nothing.
        copied: State = json.loads(json.dumps(state | {"dealt": self._dealt()}))
        return copied

    def load_state_dict(self, state: State) -> None:
        """Go on where a `state_dict` was taken: with the same sources and processes, and any number of workers.

        Raises:
            OtherDataError: the state is from other sources, another seed or another number of processes. For the
                latter see `deal_again`.
            ValueError: it is no state of a loader.
            RuntimeError: batches were taken already.
        """
        if self._thread is not None:
            raise RuntimeError("load_state_dict comes before the first batch; make a new loader")
        check_state(state, self._dealt())
        self._state = {key: value for key, value in state.items() if key != "dealt"}

    def stats(self) -> LoaderStats:
        """How fast it goes, and what was left out."""
        return LoaderStats(
            batches=self._batches,
            samples=self._samples,
            frames=self._frames,
            seconds=0.0 if self._began is None else time.perf_counter() - self._began,
            wait_s=self._wait_s,
            decoding_s=self._decoding_s,
            left_out=dict(self._bad_samples.counts),
        )

    def close(self) -> None:
        """Stop the workers. A closed loader gives no more batches; its state can still be asked for."""
        self._ended = True
        if self._thread is not None and self._decoding is not None:
            _let_go(self._stop, self._decoding, self._ready, self._thread)

    def __enter__(self) -> VideoLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        decoding: Decoding
        if self._memory is None:
            decoding = open_decoding(self.config)
        else:
            decoding = RecallingDecoding(self._memory, partial(open_decoding, self.config))
        stream = self._new_stream(decoding)
        if self._state is not None:
            stream.load(self._state)
        self._decoding = decoding
        # The thread does not know the loader, so that one that is forgotten can be collected and stops it.
        arguments = (stream, decoding, self._ready, self._stop)
        self._thread = threading.Thread(target=_fill, args=arguments, daemon=True, name="video-loader")
        self._thread.start()
        weakref.finalize(self, _let_go, self._stop, decoding, self._ready, self._thread)

    def _new_stream(self, decoding: Decoding) -> BatchStream:
        config = self.config
        sizes: dict[Kind, int] = {"video": config.batch_size, "image": config.image_batch_size or config.batch_size}
        shares: dict[Kind, float] = {"video": 1 - self._image_share, "image": self._image_share}
        lanes = [
            Lane(kind=kind, order=self._order(kind), batch_size=sizes[kind]) for kind in shares if shares[kind] > 0
        ]
        return BatchStream(
            sources=self.sources,
            lanes=lanes,
            image_share=self._image_share,
            seed=config.seed,
            decoding=decoding,
            bad_samples=self._bad_samples,
            ahead=config.prefetch_batches,
            least_ahead=max(1, 3 * config.num_workers),
            cuts=self._cuts,
        )

    def _order(self, kind: Kind) -> MixedOrder:
        config = self.config
        numbers = [number for number, source in enumerate(self.sources) if source.kind == kind]
        return MixedOrder(
            {number: self.sources[number] for number in numbers},
            [self._weights[number] for number in numbers],
            seed=config.seed,
            shuffle=config.shuffle,
            rank=self._rank,
            world_size=self._world_size,
            epochs=config.epochs,
        )

    def _dealt(self) -> State:
        return fingerprint(
            self.sources, self._weights, seed=self.config.seed, rank=self._rank, world_size=self._world_size
        )


def open_sources(sources: Sequence[str | SourceConfig], *, one_clip: bool = False) -> list[ClipSource]:
    """The sources of a configuration; with `one_clip` the first clip of the first, as the only one.

    Raises:
        SourceError: one cannot be used as described.
    """
    if one_clip:
        return [OneClip(open_source(sources[0]))]
    return [open_source(source) for source in sources]


def open_decoding(config: LoaderConfig) -> Decoding:
    """What cuts clips as a configuration says, in as many processes as it says."""
    work = partial(cut_task, config=config.cutting)
    if config.num_workers == 0:
        return DecodingHere(work)
    return DecodingPool(
        work,
        num_workers=config.num_workers,
        start_method=config.start_method,
        time_limit_s=config.cutting.limits.time_limit_s,
    )


def _fill(stream: BatchStream, decoding: Decoding, ready: _Queue, stop: threading.Event) -> None:
    """Runs in a thread: keeps the queue full."""
    try:
        while not stop.is_set():
            batch = stream.next()
            _put(None if batch is None else (batch, stream.state(), stream.decoding_seconds), ready, stop)
            if batch is None:
                return
    except DecodingStoppedError:
        return
    except BaseException as error:  # noqa: BLE001  raised where the batch is waited for
        _put(error, ready, stop)
    finally:
        decoding.close()


def _put(item: _Ready | BaseException | None, ready: _Queue, stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(queue.Full):
            ready.put(item, timeout=_SECONDS_BETWEEN_LOOKS)
            return


def _let_go(stop: threading.Event, decoding: Decoding, ready: _Queue, thread: threading.Thread) -> None:
    stop.set()
    decoding.stop()
    with suppress(queue.Empty):
        ready.get_nowait()  # a thread that waits for room goes on at once
    if thread is not threading.current_thread():
        thread.join()


def _no_work(task: Task) -> CutClip:
    raise AssertionError("a stream that is only asked for its state decodes nothing")


def _image_share(config: LoaderConfig, kinds: Sequence[Kind]) -> float:
    share, both = config.image_share, {"video", "image"}
    if set(kinds) == both:
        if share is None:
            raise ImageShareError(
                "image_share is not set, but there are sources of videos and of images; give a share", _USUAL_SHARE
            )
        if not 0 < share < 1:
            raise ImageShareError(
                f"image_share is {share}, so the {'image' if share == 0 else 'video'} sources would never be used; "
                "give a share between 0 and 1, or leave them out",
                _USUAL_SHARE,
            )
        return share
    only = float(kinds[0] == "image")
    if share not in (None, only):
        message = f"image_share is {share}, but all sources are of {kinds[0]}s; leave it out or add sources"
        raise ImageShareError(message, None)
    return only
