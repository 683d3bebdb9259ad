"""Accuracy of a scan on films whose truth is known, and its cost next to plain decoding.

    python -m benchmarks.truth_films FOLDER
    python -m benchmarks.preparation FOLDER

Hard cuts count as found within one frame; slow transitions if at least 30 % of one is covered. PySceneDetect's own
detector runs on the same decoded frames, with its default settings and with those of the scan.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from benchmarks.truth_films import FPS
from videocrafter.media.framing import Framing
from videocrafter.media.video_reader import open_reader
from videocrafter.preparation.config import ScanConfig, SelectConfig, Shares
from videocrafter.preparation.scan.scan import scan
from videocrafter.preparation.select import select


def matched(found: Sequence[int], truth: Sequence[int], tolerance: int = 1) -> int:
    """Number of true frames with a found one close to them, each used once."""
    rest, hits = list(truth), 0
    for frame in found:
        near = [one for one in rest if abs(one - frame) <= tolerance]
        if near:
            rest.remove(near[0])
            hits += 1
    return hits


def covered(found: Sequence[tuple[int, int]], truth: Sequence[Sequence[int]], least: float = 0.3) -> int:
    """Number of true transitions of which a found one covers a part."""
    rest, hits = [tuple(one) for one in truth], 0
    for first, last in found:
        near = [one for one in rest if min(last, one[1]) - max(first, one[0]) >= least * (one[1] - one[0])]
        if near:
            rest.remove(near[0])
            hits += 1
    return hits


def f1(hits: int, found: int, truth: int) -> float:
    """Harmonic mean of precision and recall."""
    return 2 * hits / max(1, found + truth)


def library_cuts(path: Path, detectors: dict[str, AdaptiveDetector]) -> dict[str, list[int]]:
    """Cuts that detectors of PySceneDetect report, on frames of the size that the scan reads."""
    found: dict[str, list[int]] = {name: [] for name in detectors}
    with open_reader(path) as reader:
        for number, frame in enumerate(reader.walk()):
            picture = cv2.cvtColor(frame.pixels(_small(*frame.size)), cv2.COLOR_RGB2BGR)
            for name, detector in detectors.items():
                codes = detector.process_frame(FrameTimecode(number, FPS), picture)
                found[name] += [code.frame_num for code in codes]
    return found


def _small(height: int, width: int) -> Framing:
    scale = min(1.0, 256 / max(height, width))
    return Framing(height=round(height * scale), width=round(width * scale))


def decode_only(path: Path) -> float:
    """CPU seconds of decoding every frame, without conversion."""
    from videocrafter.media.open_video import open_video

    started = time.process_time()
    with open_video(path) as video:
        for _ in video.container.decode(video.stream):
            pass
    return time.process_time() - started


def rows_of(film: dict[str, Any], result: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the pieces of a film as the recipe expects them, with the kind of the shot."""
    rows = []
    for piece in result["pieces"]:
        middle = (piece["start_s"] + piece["end_s"]) / 2 * FPS
        kind = next((shot["kind"] for shot in film["shots"] if shot["first"] <= middle <= shot["last"]), "none")
        number = next((n for n, shot in enumerate(film["shots"]) if shot["first"] <= middle <= shot["last"]), -1)
        rows.append(
            {
                **piece,
                "source": film["name"],
                "shot": f"{film['name']}-{piece['shot']}",
                "seconds": piece["end_s"] - piece["start_s"],
                "bits_per_pixel": 1.0,
                "source_width": 1 if film["copy_of"] else 2,
                "source_height": 1,
                "kind": kind,
                "original": f"{film['copy_of'] or film['name']}-{number}",
                "is_copy": bool(film["copy_of"]),
            }
        )
    return rows


def measure(folder: Path) -> dict[str, float]:
    """All numbers of the films in a folder."""
    films, config = json.loads((folder / "truth.json").read_text()), ScanConfig()
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for film in films:
        path = folder / film["name"]
        counts["decode_s"] += decode_only(path)
        started = time.process_time()
        result = scan(path, film["name"], film["name"], config)
        counts["scan_s"] += time.process_time() - started
        counts["film_s"] += result["frames"] / FPS
        rows += rows_of(film, result)
        if film["copy_of"]:
            continue
        cuts = [round(last * FPS) for kind, _, last in result["transitions"] if kind == "cut"]
        slow = [
            (round(first * FPS), round(last * FPS)) for kind, first, last in result["transitions"] if kind == "slow"
        ]
        library = library_cuts(
            path,
            {
                "default": AdaptiveDetector(),
                "same": AdaptiveDetector(config.cut_ratio, round(0.6 * FPS), config.cut_window, config.min_cut),
            },
        )
        for name, found in {"cut": cuts, **library}.items():
            counts[f"{name}_hits"] += matched(found, film["cuts"])
            counts[f"{name}_found"] += len(found)
        counts["cuts"] += len(film["cuts"])
        counts["slow_hits"] += covered(slow, film["slow"])
        counts["slow_found"] += len(slow)
        counts["slow"] += len(film["slow"])
    return {
        "hard cuts": counts["cuts"],
        "F1 of hard cuts": f1(counts["cut_hits"], counts["cut_found"], counts["cuts"]),
        "F1 of PySceneDetect, default": f1(counts["default_hits"], counts["default_found"], counts["cuts"]),
        "F1 of PySceneDetect, same settings": f1(counts["same_hits"], counts["same_found"], counts["cuts"]),
        "slow transitions": counts["slow"],
        "F1 of slow transitions": f1(counts["slow_hits"], counts["slow_found"], counts["slow"]),
        **_of_clips(rows),
        "film seconds": counts["film_s"],
        "scan / decoding alone (CPU)": counts["scan_s"] / counts["decode_s"],
        "source hours per core hour": counts["film_s"] / counts["scan_s"],
    }


def _of_clips(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Recall and false drops of bars, freezes and copies."""
    none = Shares(least_motion=0, little_motion=0, most_shake=0, most_blur=0)
    chosen = select(rows, SelectConfig(shares=none), 0).rows
    copied = {row["original"] for row in chosen if row["is_copy"]}
    numbers = {}
    for name, truth, found in (
        ("bars", lambda row: row["kind"] in ("bars", "pillars"), lambda row: row["picture"] < 0.99),
        ("freezes", lambda row: row["kind"] == "frozen", lambda row: row["frozen"] > 0.5),
    ):
        positive, negative = [row for row in chosen if truth(row)], [row for row in chosen if not truth(row)]
        numbers[f"recall of {name} ({len(positive)})"] = sum(map(found, positive)) / max(1, len(positive))
        numbers[f"false {name} ({len(negative)})"] = sum(map(found, negative)) / max(1, len(negative))
    # A pair is found if one of both is dropped for the other; pairs of which the floors dropped one are left out.
    alive = {row["original"] for row in chosen if row["is_copy"] and row["reason"] in ("", "copy")}
    alive &= {row["original"] for row in chosen if not row["is_copy"] and row["reason"] in ("", "copy")}
    dropped = [row for row in chosen if row["reason"] == "copy"]
    pairs = {row["original"] for row in dropped} & alive
    false = [row for row in dropped if row["original"] not in copied]
    numbers[f"recall of copies ({len(alive)})"] = len(pairs) / max(1, len(alive))
    numbers[f"false copies ({len(chosen)})"] = len(false) / max(1, len(chosen))
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of benchmarks.truth_films")
    for name, value in measure(parser.parse_args().folder).items():
        print(f"| {name} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |")


if __name__ == "__main__":
    main()
