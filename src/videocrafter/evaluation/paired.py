"""Compare two reports: paired differences on the same prompts and seeds."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from videocrafter.evaluation.metrics.catalogue import metric_named
from videocrafter.evaluation.uncertainty import paired_difference
from videocrafter.media.json_file import parse_json_object, read_json_object

REPORT, VIDEOS = "report.json", "videos.jsonl"


def differences(
    earlier: Path, report: Mapping[str, Any], videos: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return, by metric, how a report differs from an earlier one on their common videos.

    Videos are paired by prompt and seed if both sets state all seeds, else by prompt.

    Args:
        earlier: folder of the other report.
        report, videos: the report, and the lines of its videos.

    Raises:
        ValueError: the folder has no report, or one of another protocol.
    """
    other = read_json_object(earlier / REPORT)
    other_videos = _read_lines(earlier / VIDEOS)
    ours, theirs = report["protocol"], other.get("protocol", {})
    if ours["sha256"] != theirs.get("sha256"):
        raise ValueError(
            f"{earlier / REPORT} follows protocol {theirs.get('name')} ({str(theirs.get('sha256'))[:12]}), this one "
            f"{ours['name']} ({ours['sha256'][:12]}); only reports of one protocol and one prompt list are comparable"
        )
    by_seed = all(line.get("seed") is not None for line in (*videos, *other_videos))
    found: dict[str, dict[str, Any]] = {}
    for name in report["scores"]:
        needs = metric_named(name).needs
        if any(report["networks"].get(network) != other.get("networks", {}).get(network) for network in needs):
            found[name] = {"reason": "measured with other weights"}
            continue
        before, now = _values(other_videos, name, by_seed), _values(videos, name, by_seed)
        shared = before.keys() & now.keys()
        difference = paired_difference(_by_prompt(before, shared), _by_prompt(now, shared))
        if difference is not None:
            found[name] = asdict(difference) | {"verdict": difference.verdict}
    return found


_Key = tuple[str, int | None]


def _values(lines: Sequence[Mapping[str, Any]], metric: str, by_seed: bool) -> dict[_Key, list[float]]:
    """Return the values of the videos of each prompt, or of each prompt and seed."""
    found: dict[_Key, list[float]] = {}
    for line in lines:
        key = (line["prompt"] or line["name"], line["seed"] if by_seed else None)
        if metric in line["values"]:
            found.setdefault(key, []).append(line["values"][metric])
    return found


def _by_prompt(values: Mapping[_Key, list[float]], shared: Set[_Key]) -> dict[Hashable, list[float]]:
    """Return the shared values by prompt, because videos of one prompt are not independent."""
    found: dict[Hashable, list[float]] = {}
    for key in sorted(shared):
        found.setdefault(key[0], []).extend(values[key])
    return found


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); pass the folder of a finished report") from error
    return [parse_json_object(line, f"{path}, line {number}") for number, line in enumerate(text.splitlines(), 1)]


def lines_of(videos: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the content of videos.jsonl."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in videos).encode("utf-8", "backslashreplace")
