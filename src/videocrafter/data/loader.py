"""Data loader for training: decodes in worker processes, prefetches, and resumes at the exact sample.

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
from videocrafter.data.batch_stream import BatchStream, Lane
from videocrafter.data.cached_cuts import CachedDecoder, CutCache, FixedCuts
from videocrafter.data.clip import Kind
from videocrafter.data.cutting import CutClip
from videocrafter.data.decoding import ClipDecoder, DecodingStoppedError, DecodingTask, InProcessDecoder, cut_task
from videocrafter.data.decoding_pool import DecodingPool
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.data.loader_state import State, check_state, fingerprint
from videocrafter.data.one_clip import OneClip
from videocrafter.data.order import MixedOrder
from videocrafter.data.sample import VideoBatch
from videocrafter.data.source import ClipSource, SourceConfig
from videocrafter.data.sources.specs import open_source, parse_source


@dataclass(frozen=True, kw_only=True)
class LoaderStats:
    """Throughput of a loader since its first batch.

    Attributes:
        batches, samples, frames: numbers delivered.
        seconds: time since the first batch was requested.
        wait_s: part of that time spent waiting for a batch.
        decoding_s: total time of all workers for the batches that are delivered or ready.
        left_out: number of skipped samples by reason.
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
        """Fraction of time spent waiting for data."""
        return self.wait_s / self.seconds if self.seconds > 0 else 0.0


class ImageShareError(ValueError):
    """`image_share` does not fit the kinds of the sources.

    Attributes:
        fitting: a value that fits.
    """

    def __init__(self, message: str, fitting: float | None) -> None:
        super().__init__(message)
        self.fitting = fitting


_Ready: TypeAlias = tuple[VideoBatch, State, float]
_Queue: TypeAlias = "queue.Queue[_Ready | BaseException | None]"
# Value suggested by error messages.
_USUAL_SHARE = 0.125
# Interval at which the prefetching thread checks whether to stop.
_POLL_SECONDS = 0.2


class VideoLoader(Iterator[VideoBatch]):
    """An iterator over the batches of one process.

    A batch contains either videos or images, the same kind in all processes. Within an epoch of its source, a sample
    comes only once, in one process.

    Args:
        config: sources, batches, order and workers.
        rank, world_size: rank of this process and number of processes.
        cuts: number of fixed cuts per clip; None cuts clips anew in every epoch.
        cache: cache of cuts; those found in it are not decoded. Requires `cuts`.

    Raises:
        SourceError: a source cannot be used as described.
        ImageShareError: `image_share` does not fit the sources.
        ValueError: another invalid argument.
    """

    def __init__(
        self,
        config: LoaderConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
        cuts: FixedCuts | None = None,
        cache: CutCache | None = None,
    ) -> None:
        if cache is not None and cuts is None:
            raise ValueError("cache is given without cuts; pass cuts, too, because only fixed cuts can be cached")
        self._cuts = None if cuts is None else (cuts, config.cutting)
        self._cache = cache
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
        self._decoder: ClipDecoder | None = None
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
        """Return the next batch.

        Raises:
            StopIteration: after the last epoch.
            TooManyBadSamplesError: more samples were skipped than the rules allow.
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
        """Return the position after the last delivered batch, as JSON values. Each process has its own."""
        state = self._state if self._state is not None else self._new_stream(InProcessDecoder(_refuse)).state()
        # A copy in plain JSON types, so that later batches cannot change it and saving it loses nothing.
        copied: State = json.loads(json.dumps(state | {"dealt": self._fingerprint()}))
        return copied

    def load_state_dict(self, state: State) -> None:
        """Resume from a `state_dict` of the same sources and number of processes. The number of workers may differ.

        Raises:
            DataMismatchError: the sources, the seed or the number of processes differ. For the latter, see
                `redistribute_states`.
            ValueError: not the state of a loader.
            RuntimeError: a batch was already requested.
        """
        if self._thread is not None:
            raise RuntimeError("load_state_dict must be called before the first batch; create a new loader")
        check_state(state, self._fingerprint())
        self._state = {key: value for key, value in state.items() if key != "dealt"}

    def stats(self) -> LoaderStats:
        """Return throughput and numbers of skipped samples."""
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
        """Stop the workers. A closed loader returns no more batches; `state_dict` still works."""
        self._ended = True
        if self._thread is not None and self._decoder is not None:
            _release(self._stop, self._decoder, self._ready, self._thread)

    def __enter__(self) -> VideoLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        decoder: ClipDecoder
        if self._cache is None:
            decoder = open_decoder(self.config)
        else:
            decoder = CachedDecoder(self._cache, partial(open_decoder, self.config))
        stream = self._new_stream(decoder)
        if self._state is not None:
            stream.load(self._state)
        self._decoder = decoder
        # The thread holds no reference to the loader, so that an unused loader is garbage collected and stops it.
        arguments = (stream, decoder, self._ready, self._stop)
        self._thread = threading.Thread(target=_fill, args=arguments, daemon=True, name="video-loader")
        self._thread.start()
        weakref.finalize(self, _release, self._stop, decoder, self._ready, self._thread)

    def _new_stream(self, decoder: ClipDecoder) -> BatchStream:
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
            decoder=decoder,
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

    def _fingerprint(self) -> State:
        return fingerprint(
            self.sources, self._weights, seed=self.config.seed, rank=self._rank, world_size=self._world_size
        )


def open_sources(sources: Sequence[str | SourceConfig], *, one_clip: bool = False) -> list[ClipSource]:
    """Open sources; with `one_clip`, only the first clip of the first source.

    Raises:
        SourceError: a source cannot be used as described.
    """
    if one_clip:
        return [OneClip(open_source(sources[0]))]
    return [open_source(source) for source in sources]


def open_decoder(config: LoaderConfig) -> ClipDecoder:
    """Start the decoder for a configuration: in this process or in workers."""
    decode = partial(cut_task, config=config.cutting)
    if config.num_workers == 0:
        return InProcessDecoder(decode)
    return DecodingPool(
        decode,
        num_workers=config.num_workers,
        start_method=config.start_method,
        time_limit_s=config.cutting.limits.time_limit_s,
    )


def _fill(stream: BatchStream, decoder: ClipDecoder, ready: _Queue, stop: threading.Event) -> None:
    """Keep the queue full; runs in a thread."""
    try:
        while not stop.is_set():
            batch = stream.next()
            _put(None if batch is None else (batch, stream.state(), stream.decoding_seconds), ready, stop)
            if batch is None:
                return
    except DecodingStoppedError:
        return
    except BaseException as error:  # noqa: BLE001  raised again where the batch is awaited
        _put(error, ready, stop)
    finally:
        decoder.close()


def _put(item: _Ready | BaseException | None, ready: _Queue, stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(queue.Full):
            ready.put(item, timeout=_POLL_SECONDS)
            return


def _release(stop: threading.Event, decoder: ClipDecoder, ready: _Queue, thread: threading.Thread) -> None:
    stop.set()
    decoder.stop()
    with suppress(queue.Empty):
        ready.get_nowait()  # wakes a thread that waits for space
    if thread is not threading.current_thread():
        thread.join()


def _refuse(task: DecodingTask) -> CutClip:
    raise AssertionError("this stream only provides a state and decodes nothing")


def _image_share(config: LoaderConfig, kinds: Sequence[Kind]) -> float:
    share, both = config.image_share, {"video", "image"}
    if set(kinds) == both:
        if share is None:
            raise ImageShareError(
                "image_share is not set, but there are both video and image sources; "
                f"set it, for example to {_USUAL_SHARE}",
                _USUAL_SHARE,
            )
        if not 0 < share < 1:
            raise ImageShareError(
                f"image_share is {share}, so the {'image' if share == 0 else 'video'} sources would never be used; "
                "set it between 0 and 1, or remove these sources",
                _USUAL_SHARE,
            )
        return share
    only = float(kinds[0] == "image")
    if share not in (None, only):
        message = f"image_share is {share}, but all sources contain {kinds[0]}s; remove it, or add other sources"
        raise ImageShareError(message, None)
    return only
