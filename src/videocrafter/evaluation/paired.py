"""Compare two reports: paired differences on the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videocrafter.evaluation.metrics.catalogue import metric_named
from videocrafter.evaluation.metrics.set_metric import SetMetric
from videocrafter.evaluation.results import MEASUREMENTS, REPORT
from videocrafter.evaluation.uncertainty import paired_difference
from videocrafter.media.json_file import parse_json_object, read_json_object


@dataclass(frozen=True, kw_only=True)
class EarlierReport:
    """A finished report to compare with: its folder, its content, and the lines of its videos."""

    folder: Path
    report: Mapping[str, Any]
    videos: Sequence[Mapping[str, Any]]

    def check_protocol(self, protocol: Mapping[str, Any]) -> None:
        """Raise ValueError if the report follows another protocol than one with this `name` and `sha256`."""
        theirs = self.report["protocol"]
        if protocol["sha256"] != theirs.get("sha256"):
            raise ValueError(
                f"{self.folder / REPORT} follows protocol {theirs.get('name')} ({str(theirs.get('sha256'))[:12]}), "
                f"this one {protocol['name']} ({protocol['sha256'][:12]}); only reports of one protocol and one "
                "prompt list are comparable"
            )


def read_earlier(folder: Path) -> EarlierReport:
    """Read a finished report.

    Raises:
        ValueError: the folder has no report, or its files are damaged.
    """
    report = read_json_object(folder / REPORT)
    if not isinstance(report.get("protocol"), Mapping):
        raise ValueError(
            f"{folder / REPORT} names no protocol; pass the folder of a report of `videocrafter evaluate`"
        )
    videos = _read_lines(folder / MEASUREMENTS)
    if any(not isinstance(line.get("values"), Mapping) or not line.keys() >= _KEYS for line in videos):
        raise ValueError(f"{folder / MEASUREMENTS} has lines without a name, prompt, seed and values; evaluate again")
    return EarlierReport(folder=folder, report=report, videos=videos)


def differences(
    earlier: EarlierReport, report: Mapping[str, Any], videos: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return, by metric, how a report differs from an earlier one on their common videos, or why that is unknown.

    Videos are paired by their prompt, by their seed if both sets state all seeds, and by their input image if both
    sets have images.

    Args:
        earlier: the other report.
        report, videos: the report, and the lines of its videos.

    Raises:
        ValueError: the earlier report follows another protocol.
    """
    earlier.check_protocol(report["protocol"])
    found: dict[str, dict[str, Any]] = {}
    networks = earlier.report.get("networks", {})
    sets = (earlier.videos, list(videos))
    by_seed = all(line["seed"] is not None for lines in sets for line in lines)
    by_image = all(any(line.get("image_sha256") for line in lines) for lines in sets)
    for name in report["scores"]:
        metric = metric_named(name)
        if isinstance(metric, SetMetric):
            found[name] = {"reason": "a score of the whole set: there are no pairs"}
        elif any(report["networks"].get(network) != networks.get(network) for network in metric.needs):
            found[name] = {"reason": "measured with other weights"}
        else:
            before, now = (_values(lines, name, by_seed, by_image) for lines in sets)
            shared = before.keys() & now.keys()
            difference = paired_difference(_by_prompt(before, shared), _by_prompt(now, shared))
            if difference is None:
                found[name] = {"reason": _nothing_shared(before, now)}
            else:
                found[name] = asdict(difference) | {"verdict": difference.verdict}
    return found


def _nothing_shared(before: Mapping[_Key, Any], now: Mapping[_Key, Any]) -> str:
    if not before:
        return "the earlier report has no value"
    if {key[0] for key in before} & {key[0] for key in now}:
        return "common prompts have other seeds or input images"
    return "the reports share no prompt"


_KEYS = {"name", "prompt", "seed", "values"}
_Key = tuple[str, int | None, str | None]
"""Prompt, seed and hash of the input image."""


def _values(
    lines: Sequence[Mapping[str, Any]], metric: str, by_seed: bool, by_image: bool
) -> dict[_Key, list[float]]:
    """Return the values of the videos of each prompt, apart by seed and input image where these pair videos."""
    found: dict[_Key, list[float]] = {}
    for line in lines:
        seed, image = line["seed"] if by_seed else None, line.get("image_sha256") if by_image else None
        key = (line["prompt"] or line["name"], seed, image)
        if metric in line["values"]:
            found.setdefault(key, []).append(line["values"][metric])
    return found


def _by_prompt(values: Mapping[_Key, list[float]], shared: Set[_Key]) -> dict[Hashable, list[float]]:
    """Return the shared values by prompt, because videos of one prompt are not independent."""
    found: dict[Hashable, list[float]] = {}
    for key in sorted(shared, key=str):
        found.setdefault(key[0], []).extend(values[key])
    return found


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); pass the folder of a finished report") from error
    return [parse_json_object(line, f"{path}, line {number}") for number, line in enumerate(text.splitlines(), 1)]
