"""Measure one video: decode it once, frame by frame, and feed every metric of a protocol."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.catalogue import OUTPUT_NETWORKS, VIDEO_METRICS, metric_named
from videocrafter.evaluation.metrics.drawn_images import DRAWN
from videocrafter.evaluation.metrics.frame import Frame, VideoContext
from videocrafter.evaluation.metrics.image_likeness import fitted
from videocrafter.evaluation.metrics.inception_score import ClassSums
from videocrafter.evaluation.metrics.networks import Networks
from videocrafter.evaluation.metrics.optical_flow import opencv
from videocrafter.evaluation.metrics.running import Running
from videocrafter.evaluation.metrics.set_metric import I3D_FRAMES, SET_METRICS, SetMetric
from videocrafter.evaluation.metrics.video_metric import Facts, VideoMetric
from videocrafter.evaluation.metrics.whole_clip import FirstFrames
from videocrafter.evaluation.protocols.protocol import Protocol
from videocrafter.evaluation.results import VideoResult
from videocrafter.evaluation.video_set import VideoEntry
from videocrafter.media.file_hash import file_sha256
from videocrafter.media.image_file import read_image
from videocrafter.media.video_file import probe, read_frames
from videocrafter.media.video_reader import open_reader

_BLOCK = 16
"""Frames that networks take at once. Fixed, so that results do not depend on the length of a video."""


@dataclass(frozen=True, kw_only=True)
class OpenedVideo:
    """A video while it is read: its frames [H, W, 3] uint8, and its rate."""

    frames: Iterator[NDArray[np.uint8]]
    fps: float


class Measurer:
    """Measures videos by a protocol with the available networks.

    Args:
        protocol: what to measure.
        networks: the networks that are available.
        has_reference: whether features for distances to a reference set are collected.

    Attributes:
        metrics: metrics of single videos that can be measured.
        set_metrics: metrics of the set that can be computed.
        missing: metrics whose networks or reference are not available.
    """

    def __init__(self, protocol: Protocol, networks: Networks, *, has_reference: bool = False) -> None:
        opencv()  # reports a missing package before the first video
        self.protocol, self.networks = protocol, networks
        available = [name for name in protocol.metrics if not networks.missing(metric_named(name).needs)]
        self.missing = tuple(name for name in protocol.metrics if name not in available)
        self.metrics: tuple[VideoMetric, ...] = tuple(VIDEO_METRICS[n] for n in available if n in VIDEO_METRICS)
        in_set = [SET_METRICS[name] for name in available if name in SET_METRICS]
        self.set_metrics: tuple[SetMetric, ...] = tuple(m for m in in_set if has_reference or not m.needs_reference)
        self.without_reference = tuple(m.name for m in in_set if m not in self.set_metrics)
        used = {output for metric in self.metrics for output in metric.reads}
        used |= {metric.output for metric in self.set_metrics if metric.output in OUTPUT_NETWORKS}
        needed = [name for metric in self.metrics for name in metric.needs]
        self._used_networks = sorted({*needed, *(metric.network for metric in self.set_metrics)})
        self._outputs = frozenset(used)
        self._frame_networks = sorted({OUTPUT_NETWORKS[output] for output in used})

    @property
    def identity(self) -> str:
        """Hash of the protocol and of the networks that take part in it."""
        names = [metric.name for metric in self.metrics] + [metric.name for metric in self.set_metrics]
        return hash_of([self.protocol.sha256, self.used_networks, names])

    @property
    def used_networks(self) -> dict[str, str]:
        """SHA-256 of the weights of each network that takes part."""
        return {name: self.networks.sha256[name] for name in self._used_networks}

    def of_reference(self) -> Measurer:
        """Return a measurer of the features that distances compare, and of nothing else."""
        names = tuple(metric.name for metric in self.set_metrics if metric.needs_reference)
        protocol = replace(self.protocol, metrics=names, totals={}, ranges={})
        return Measurer(protocol, self.networks, has_reference=True)

    def fingerprint(self, entry: VideoEntry, content: str) -> str:
        """Return the hash of everything that a video's result depends on.

        Args:
            entry: the video.
            content: hash of its file, from `content_sha256`.

        Raises:
            OSError: a file cannot be read.
        """
        image = None if entry.image is None else file_sha256(entry.image)
        attributes = {key: entry.metadata.get(key) for key in ("amplitude", "action", "count", "image_fit")}
        return hash_of([self.identity, content, entry.prompt, entry.seed, image, attributes])

    def measure(self, entry: VideoEntry, fingerprint: str = "") -> VideoResult:
        """Measure a video.

        Raises:
            MediaError: the video or its image cannot be read.
            TorchScriptError: a network of the user fails.
        """
        with_image = None if entry.image is None else read_image(entry.image)
        with _opened(entry.path, self.protocol.max_frames) as opened:
            first = next(opened.frames)  # readers refuse files without frames
            fit = str(entry.metadata.get("image_fit", "stretch"))
            context = VideoContext(
                prompt=entry.prompt,
                fps=opened.fps,
                image=None if with_image is None else fitted(with_image, first.shape[0], first.shape[1], fit),
                flow_networks=self._flow_networks(),
            )
            self._embed_conditions(context)
            facts = Facts(video=context, attributes=entry.metadata, networks=self.networks)
            reasons = {metric.name: reason for metric in self.metrics if (reason := metric.lacks(facts))}
            running = {metric.name: metric.start(facts) for metric in self.metrics if metric.name not in reasons}
            features = _Features(self.set_metrics)
            last = self._run(chain([first], opened.frames), context, [*running.values(), features])
        values: dict[str, float] = {}
        for name, one in running.items():
            value = one.value()
            if math.isfinite(value):
                values[name] = value
            else:
                reasons[name] = "the video has one frame" if last.index == 0 else VIDEO_METRICS[name].undefined
        return VideoResult(
            name=entry.name,
            prompt=entry.prompt,
            seed=entry.seed,
            image_sha256=None if entry.image is None else file_sha256(entry.image),
            fingerprint=fingerprint,
            num_frames=last.index + 1,
            height=last.rgb.shape[0],
            width=last.rgb.shape[1],
            fps=context.fps,
            values=values,
            reasons=reasons,
            features=features.means(self.networks),
            classes=features.classes,
        )

    def _run(
        self, pictures: Iterator[NDArray[np.uint8]], context: VideoContext, running: Sequence[Running | _Features]
    ) -> Frame:
        frame: Frame | None = None
        pictures = islice(pictures, self.protocol.max_frames)
        while block := list(islice(pictures, _BLOCK)):
            vectors = self._embed(block)
            for index, picture in enumerate(block):
                frame = Frame(picture, context, frame)
                frame.embeddings.update({output: rows[index] for output, rows in vectors.items()})
                for one in running:
                    one.add(frame)
        assert frame is not None
        return frame

    def _embed(self, frames: Sequence[NDArray[np.uint8]]) -> Mapping[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        for name in self._frame_networks:
            found.update(self.networks.frame_network(name, self._outputs).of_frames(frames))
        return {output: rows for output, rows in found.items() if output in self._outputs}

    def _embed_conditions(self, context: VideoContext) -> None:
        if context.image is not None:
            context.image_embeddings.update({name: rows[0] for name, rows in self._embed([context.image]).items()})
        if context.prompt and "clip" in self._frame_networks and self.networks.clip is not None:
            context.text_embeddings.update(self.networks.clip.of_prompt(context.prompt))
        drawn = self.networks.drawn.get(context.prompt, ()) if DRAWN in self._used_networks else ()
        if drawn and self.networks.clip is not None:
            rows = [self.networks.clip.of_drawn_images([read_image(path)]) for path in drawn]
            context.drawn_embeddings.update({name: [row[name][0] for row in rows] for name in rows[0]})

    def _flow_networks(self) -> dict[str, Any]:
        if not any("raft" in metric.needs for metric in self.metrics):
            return {}
        return {"raft": self.networks.flow(), "raft_compat": self.networks.flow(compat=True)}


class _Features:
    """Features and class sums of one video for the metrics of a set."""

    def __init__(self, metrics: Sequence[SetMetric]) -> None:
        self._class_outputs = sorted({m.output for m in metrics if m.estimator == "class_score"})
        outputs = {m.output for m in metrics if m.estimator != "class_score"}
        self._frame_outputs = sorted(outputs - {"i3d"})
        self._clip = FirstFrames(I3D_FRAMES) if "i3d" in outputs else None
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._count = 0
        self.classes: dict[str, ClassSums] = {}

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._count += 1
        for output in self._class_outputs:
            sums = ClassSums.of(frame.embeddings[output][None])
            self.classes[output] = self.classes[output] + sums if output in self.classes else sums
        for output in self._frame_outputs:
            self._sums[output] = self._sums.get(output, 0.0) + frame.embeddings[output].astype(np.float64)
        if self._clip is not None:
            self._clip.add(frame)

    def means(self, networks: Networks) -> dict[str, NDArray[np.float32]]:
        """Return the mean features over frames, and I3D's features of the first frames."""
        found = {output: (total / self._count).astype(np.float32) for output, total in self._sums.items()}
        if self._clip is not None and len(self._clip.frames) == I3D_FRAMES:
            found["i3d"] = networks.video_network("i3d").of_clip(self._clip.frames)
        return found


@contextmanager
def _opened(path: Path, max_frames: int) -> Iterator[OpenedVideo]:
    if path.is_dir():
        yield OpenedVideo(frames=iter(read_frames(path, max_frames=max_frames)), fps=probe(path).fps)
        return
    with open_reader(path) as reader:
        yield OpenedVideo(frames=reader.frames(), fps=reader.fps)


def content_sha256(path: Path) -> str:
    """Return the hash of a video file, or of the files of a folder of frames."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return hash_of([[file.name, file_sha256(file)] for file in files]) if path.is_dir() else file_sha256(path)


def hash_of(value: Any) -> str:
    """Return the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
