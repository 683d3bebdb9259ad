"""Evaluate a set of videos: measure what is not measured yet, score, and return the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videocrafter.evaluation.feature_rows import FeatureRows
from videocrafter.evaluation.measuring import Measurer, content_sha256, hash_of
from videocrafter.evaluation.metrics.catalogue import metric_named
from videocrafter.evaluation.metrics.optical_flow import opencv
from videocrafter.evaluation.results import MeasuredVideos, VideoResult, read_result, write_result
from videocrafter.evaluation.scores import Collected, normalised, score, totals
from videocrafter.evaluation.video_set import VideoEntry, VideoProblem, VideoSet
from videocrafter.media.errors import MediaError
from videocrafter.pipelines.versions import versions

Progress = Callable[[int, int], None]
"""Called after every video with (videos finished, total number of videos)."""

RESULTS, REFERENCE, FEATURES = "results", "reference", "features"
"""Folders inside the output: one result file per video, those of the reference set, and feature rows."""


@dataclass
class Outcome:
    """The report of an evaluation, and the lines of its videos.

    Attributes:
        report: content of report.json.
        videos: one JSON object per measured video, read from the results when it is needed.
    """

    report: dict[str, Any]
    videos: MeasuredVideos


def evaluate_videos(
    videos: VideoSet,
    measurer: Measurer,
    output: Path,
    *,
    reference: VideoSet | None = None,
    description: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> Outcome:
    """Evaluate a set of videos. Results of earlier calls in `output` are used again if nothing changed.

    Args:
        videos: the set.
        measurer: protocol and networks.
        output: folder for the results of single videos.
        reference: real videos for distances; their frames are measured by the same networks.
        description: where the videos come from, for the report.
        on_progress: called after every video.

    Raises:
        ValueError: no video can be measured, or a network of the user fails.
    """
    total = len(videos.entries) + (0 if reference is None else len(reference.entries))
    counter = _Counter(total, on_progress)
    pass_over = _Pass(measurer, output / RESULTS, output / FEATURES, counter)
    collected, unreadable = pass_over.run(videos.entries)
    if not pass_over.names:
        raise ValueError(f"none of the {len(videos.entries)} videos can be measured; {unreadable[0].message}")
    real = _Pass(measurer.of_reference(), output / REFERENCE / RESULTS, output / REFERENCE / FEATURES, counter)
    real_problems: list[VideoProblem] = []
    if reference is not None:
        _, real_problems = real.run(reference.entries)
    scores = score(collected, measurer.set_metrics, pass_over.features, real.features)
    protocol = measurer.protocol
    problems = [*videos.problems, *unreadable]
    report = {
        "format": 1,
        "protocol": {
            "name": protocol.name,
            "version": protocol.version,
            "sha256": protocol.sha256,
            "content": protocol.content(),
        },
        "comparison": _comparison(measurer, collected, real.contents),
        "videos": dict(description or {})
        | {"folder": _from(output, videos.root), "count": len(pass_over.names), "prompts": len(collected.prompts)},
        "reference": None if reference is None else {"folder": str(reference.root), "count": len(real.names)},
        "scores": scores.as_json(protocol),
        "totals": totals(protocol, scores),
        "normalised": normalised(protocol, scores),
        "missing": _missing(measurer),
        "not_measured": {name: dict(reasons) for name, reasons in scores.not_measured.items()},
        "problems": [asdict(problem) for problem in (*problems, *real_problems)],
        "warnings": collected.warnings(),
        "lengths": dict(collected.lengths),
        "sizes": dict(collected.sizes),
        "rates": dict(collected.rates),
        "networks": measurer.used_networks,
        "extraction": _extraction(measurer, pass_over.features),
        "versions": _versions(),
    }
    return Outcome(report=report, videos=MeasuredVideos(output / RESULTS, pass_over.names))


def _comparison(measurer: Measurer, collected: Collected, reference: Sequence[str]) -> dict[str, Any]:
    """Return the hashes of all that must be equal for two reports to be comparable as a whole.

    The protocol pins the metrics, and the prompts if a list is given. The networks, the measured prompts, the number
    of videos of each and the content of the reference set come in addition, because scores depend on them.
    """
    parts = {
        "protocol_sha256": measurer.protocol.sha256,
        "networks_sha256": hash_of(measurer.used_networks),
        "prompts_sha256": hash_of(sorted(collected.prompts)),
        "counts_sha256": hash_of(sorted(collected.counts.items())),
        "reference_sha256": hash_of(sorted(reference)) if reference else None,
    }
    return {"sha256": hash_of(parts), **parts}


def _from(output: Path, folder: Path) -> str:
    """Return the path of a folder seen from the report, so that both can be moved together."""
    try:
        return Path(os.path.relpath(folder.absolute(), output.absolute())).as_posix()
    except ValueError:  # another drive
        return str(folder.absolute())


class _Counter:
    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self._done, self._total, self._on_progress = 0, total, on_progress

    def add(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)


class _Pass:
    """One pass over a set: results are read or measured one after another."""

    def __init__(self, measurer: Measurer, results: Path, rows: Path, counter: _Counter) -> None:
        self._measurer, self._results, self._rows, self._counter = measurer, results, rows, counter
        self.features: dict[str, FeatureRows] = {}
        self.names: list[str] = []
        self.contents: list[str] = []

    def run(self, entries: Sequence[VideoEntry]) -> tuple[Collected, list[VideoProblem]]:
        """Return what was collected, and the videos that cannot be read. Features and class sums go to files."""
        for metric in self._measurer.set_metrics:
            dtype = np.float32 if metric.needs_reference else np.float64
            self.features[metric.output] = FeatureRows(self._rows / f"{metric.output}.npy", len(entries), dtype)
        collected, problems = Collected(), []
        for entry in entries:
            result = self._result(entry)
            if isinstance(result, VideoProblem):
                problems.append(result)
            else:
                self.names.append(entry.name)
                prompt = collected.add(result)
                for output, row in result.features.items():
                    self.features[output].add(row, prompt)
                for output, sums in result.classes.items():
                    self.features[output].add(sums.to_row(), prompt)
            self._counter.add()
        return collected, problems

    def _result(self, entry: VideoEntry) -> VideoResult | VideoProblem:
        try:
            content = content_sha256(entry.path)
            fingerprint = self._measurer.fingerprint(entry, content)
            found = read_result(self._results, entry.name, fingerprint)
            if found is None:
                found = self._measurer.measure(entry, fingerprint)
                write_result(self._results, found)
            self.contents.append(content)
            return found
        except MediaError as error:
            return VideoProblem(kind="unreadable", name=entry.name, message=str(error))


def _missing(measurer: Measurer) -> list[dict[str, Any]]:
    """Return the metrics that were not computed for want of weights or of a reference set, with what they need."""
    found = []
    for name in measurer.missing:
        metric = metric_named(name)
        needs = measurer.networks.missing(metric.needs)
        found.append({"metric": name, "aspect": metric.aspect, "summary": metric.summary, "needs": needs})
    for name in measurer.without_reference:
        metric = metric_named(name)
        needs = [{"name": "reference", "file": "a folder of real videos, passed with --reference"}]
        found.append({"metric": name, "aspect": metric.aspect, "summary": metric.summary, "needs": needs})
    return found


def _extraction(measurer: Measurer, features: Mapping[str, FeatureRows]) -> dict[str, Any]:
    """Return how features were extracted: distances are comparable only if all of it is equal."""
    outputs = sorted({metric.output for metric in measurer.set_metrics if metric.needs_reference})
    return {
        "max_frames": measurer.protocol.max_frames,
        "stride": 1,
        "frame_features": "mean over frames",
        "efficientnet_lite0": "frames scaled to cover 224 x 224 and cropped at the centre",
        "inception": "whole frames at their own size; the network scales them",
        "i3d": "first 16 frames, stride 1, scaled to 224 x 224 (bilinear, aspect ratio not kept), [-1, 1]",
        "flow": "DIS, preset medium, at a short side of 256",
        "feature_sizes": {output: features[output].shape[1] for output in outputs if len(features[output])},
    }


def _versions() -> dict[str, str]:
    """Return the versions of all software that affects a value."""
    import av
    import numpy as np

    libraries = {"numpy": np.__version__, "opencv": str(opencv().__version__), "av": av.__version__}
    return versions() | libraries
