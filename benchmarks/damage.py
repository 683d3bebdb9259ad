"""Load hundreds of damaged and unusual files: no crash, no hang, and each file is delivered or reported.

    python -m benchmarks.damage
    python -m benchmarks.damage --files 3000 --seed 7

The videos, images and archives are valid, unusual (variable frame rate, rotation, 10 bits, odd file names …),
damaged (truncated, flipped bits, holes, wrong headers …) or of another type than their name says. They are mixed in
folders, manifests and tar shards. The loader reads everything once in a separate process, with workers, a time limit
and no limit on bad samples. Exit status 1 if a process crashed or hung (even if a retry delivered the sample), if a
file is neither delivered nor reported, or if the outcome of a file differs from the one known beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks.report import Report, add_output_arguments, machine, positive, publish

if TYPE_CHECKING:
    from tests.unit.data.odd_sources import Expected

ROOT = Path(__file__).parents[1]
FATES = ("delivered", "named", "behind damage", "neither")
"""Possible outcomes of a file; "neither" is an error."""

_ARRIVED, _NAMED, _STATS, _SOURCES = "arrived.jsonl", "named.jsonl", "stats.json", "sources.json"
# A sample may use up its time limit in each of several attempts.
_TIME_LIMITS_OF_SILENCE = 4
_SECONDS_TO_START = 300.0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.damage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--files", type=positive, default=500, help="least number of files and archives (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed for the damage (%(default)s)")
    parser.add_argument("--workers", type=positive, default=2, help="decoding processes (%(default)s)")
    parser.add_argument("--time-limit", type=float, default=20.0, help="seconds per sample (%(default)s)")
    parser.add_argument(
        "--folder", type=Path, help="folder for the files, kept afterwards; default: a temporary folder"
    )
    parser.add_argument("--smoke", action="store_true", help="few files, little more than one of each kind")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    add_output_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.load is not None:
        load(given)
        return
    where = machine()
    # The loader has its own process group, so end it when this process is terminated.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if given.smoke:
        given.files = 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if given.folder is not None and folder.exists() and any(folder.iterdir()):
            sys.exit(f"benchmarks.damage: error: --folder {folder} is not empty; choose another one")
        from tests.unit.data.odd_sources import make_sources

        print("making the files", file=sys.stderr)
        sources = make_sources(folder / "files", given.files, given.seed)
        (folder / _SOURCES).write_text(json.dumps(sources.lines))
        print("loading them", file=sys.stderr)
        started = time.monotonic()
        trouble = watch(folder, given)
        outcome = judge(sources.expected, folder, trouble)
        report = _report(given, outcome, where, time.monotonic() - started)
    publish(report, given)
    if not outcome.is_good:
        sys.exit(1)


@dataclass(kw_only=True)
class Outcome:
    """Outcome of all files.

    Attributes:
        rows: for each kind of file, the number of files and of each of FATES.
        reasons: counts of the reasons for skipped samples.
        lines: number of lines in the report of bad samples.
        wrong: files whose outcome differs from the one known beforehand, and other errors.
        neither: files that are neither delivered nor reported.
        trouble: crash or hang of the loader's process.
    """

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    samples: int = 0
    largest_mb: float = 0.0
    wrong: list[str] = field(default_factory=list)
    neither: list[str] = field(default_factory=list)
    crashes: int = 0
    hangs: int = 0
    trouble: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.crashes or self.hangs or self.wrong or self.neither or self.trouble)


def load(given: argparse.Namespace) -> None:
    """Read the sources once and record every batch as it arrives."""
    import resource

    from videocrafter.data.bad_samples import BadSampleRules
    from videocrafter.data.clip import DecodingLimits
    from videocrafter.data.clip_sampling import ClipSampling
    from videocrafter.data.cutting import CuttingConfig
    from videocrafter.data.decoding_pool import DecodingPool
    from videocrafter.data.loader import VideoLoader
    from videocrafter.data.loader_config import LoaderConfig

    folder = given.load
    config = LoaderConfig(
        sources=tuple(json.loads((folder / _SOURCES).read_text())),
        image_share=0.5,
        cutting=CuttingConfig(
            sampling=ClipSampling(lengths=(4,), fps_range=(4.0, 8.0)),
            height=32,
            width=32,
            limits=DecodingLimits(time_limit_s=given.time_limit, max_pixels=1_000_000),
        ),
        epochs=1,
        num_workers=given.workers,
        bad_samples=BadSampleRules(
            max_bad_share=1.0, max_left_out_share=1.0, window=10**9, report=str(folder / _NAMED)
        ),
    )
    samples, deaths, handle_death = 0, 0, DecodingPool._handle_death

    def counted(pool: DecodingPool, worker: Any) -> None:
        nonlocal deaths
        deaths += 1
        handle_death(pool, worker)

    with (
        mock.patch.object(DecodingPool, "_handle_death", counted),
        VideoLoader(config) as loader,
        (folder / _ARRIVED).open("w", encoding="utf-8") as arrived,
    ):
        for batch in loader:
            samples += len(batch)
            whole = bool(batch.pixels.isfinite().all() and batch.pixels.abs().max() <= 1 and batch.fps.min() > 0)
            arrived.write(json.dumps({"keys": batch.keys, "whole": whole}) + "\n")
            arrived.flush()
        reasons = loader.stats().left_out
    # Linux reports kilobytes; ended workers are included.
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    stats = {"samples": samples, "reasons": reasons, "deaths": deaths, "largest_mb": largest / 1000}
    (folder / _STATS).write_text(json.dumps(stats))


def watch(folder: Path, given: argparse.Namespace) -> list[str]:
    """Load in a separate process, and kill it if it hangs; return what went wrong."""
    options = ["--load", str(folder), "--workers", str(given.workers), "--time-limit", str(given.time_limit)]
    with (folder / "printed.txt").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.damage", *options],
            cwd=ROOT,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
    patience = _SECONDS_TO_START + _TIME_LIMITS_OF_SILENCE * given.time_limit
    sizes, since = _sizes(folder), time.monotonic()
    try:
        while process.poll() is None:
            time.sleep(0.2)
            if (now := _sizes(folder)) != sizes:
                sizes, since = now, time.monotonic()
                patience = _TIME_LIMITS_OF_SILENCE * given.time_limit
            elif time.monotonic() - since > patience:
                return [f"HANGS: no sample for {patience:g} s"]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
            process.wait()
    if process.returncode or not (folder / _STATS).exists():
        printed = (folder / "printed.txt").read_text(errors="replace").strip().splitlines()[-1:]
        return [f"CRASHED with status {process.returncode}: {' '.join(printed)}"]
    return []


def _sizes(folder: Path) -> list[int]:
    return [path.stat().st_size if path.exists() else 0 for path in (folder / _ARRIVED, folder / _NAMED)]


def judge(expected: Sequence[Expected], folder: Path, trouble: Sequence[str]) -> Outcome:
    """Compare delivered and reported files with the expected outcomes."""
    outcome = Outcome(trouble=list(trouble))
    batches, named = _lines(folder / _ARRIVED), _lines(folder / _NAMED)
    arrived = Counter(key for batch in batches for key in batch["keys"])
    wanted = Counter(f"{one.source}/{one.key}" for one in expected if not one.is_archive)
    outcome.wrong += [f"{key}: no pixels" for batch in batches if not batch["whole"] for key in batch["keys"]]
    left_out = {(line["source"], line["key"]) for line in named}
    archives = " ".join(line["message"] for line in named if line["reason"] == "damaged_archive") + " "
    for one in expected:
        became = _became(one, expected, arrived, left_out, archives)
        row = outcome.rows.setdefault(one.what, Counter())
        row.update({"files": 1, became: 1})
        name = f"{one.what}: {one.key or one.archive}"
        if became == "neither":
            outcome.neither.append(name)
        elif (one.fate == "whole" and became != "delivered") or (one.fate == "bad" and became != "named"):
            outcome.wrong.append(f"{name} should be {one.fate}, was {became}")
    outcome.wrong += [
        f"{key} was delivered {arrived[key]} times, not {count}"
        for key, count in wanted.items()
        if arrived[key] not in (0, count)
    ]
    stats = json.loads((folder / _STATS).read_text()) if (folder / _STATS).exists() else {}
    outcome.reasons = Counter(stats.get("reasons", {}))
    outcome.samples, outcome.largest_mb = stats.get("samples", 0), stats.get("largest_mb", 0.0)
    outcome.lines = len(named)
    # The samples of a worker that died may have been delivered on retry, so count deaths as well.
    outcome.crashes = max(outcome.reasons["crashed"], stats.get("deaths", 0))
    outcome.crashes += sum(text.startswith("CRASHED") for text in trouble)
    outcome.hangs = outcome.reasons["too_slow"] + sum(text.startswith("HANGS") for text in trouble)
    outcome.wrong += [f"{line['key']}: {line['message']}" for line in named if line["reason"] == "unexpected"]
    return outcome


def _became(
    one: Expected,
    expected: Sequence[Expected],
    arrived: Collection[str],
    left_out: set[tuple[str, str]],
    archives: str,
) -> str:
    """Return the outcome of a sample or an archive, one of FATES.

    Args:
        archives: messages of the report about damaged archives.
    """
    # The message contains the archive's path, which is not a prefix of another archive's.
    archive_is_named = bool(one.archive) and f"{one.archive} " in archives
    if not one.is_archive:
        if f"{one.source}/{one.key}" in arrived:
            return "delivered"
        if (one.source, one.key) in left_out:
            return "named"
        return "behind damage" if archive_is_named else "neither"
    if archive_is_named:
        return "named"
    inside = [other for other in expected if other.archive == one.archive and not other.is_archive]
    accounted = all(f"{it.source}/{it.key}" in arrived or (it.source, it.key) in left_out for it in inside)
    return "delivered" if accounted else "neither"


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _report(given: argparse.Namespace, outcome: Outcome, where: dict[str, object], seconds: float) -> Report:
    total: Counter[str] = sum(outcome.rows.values(), Counter())
    counts = ("files", *FATES)
    rows = [(what, *(row[count] for count in counts)) for what, row in sorted(outcome.rows.items())]
    rows.append(("all", *(total[count] for count in counts)))
    reasons = ", ".join(f"{reason} {count}" for reason, count in outcome.reasons.most_common())
    notes = [
        f"crashes: {outcome.crashes}; hangs: {outcome.hangs}; wrong outcome: {len(outcome.wrong)}; "
        f"neither delivered nor reported: {len(outcome.neither)}",
        f"{outcome.samples} samples delivered; skipped: {reasons}; lines in the report: {outcome.lines}",
        "an archive counts in addition to its samples: delivered if all of it was read, otherwise named; the loader "
        "cannot see samples after the damage",
        f"peak memory of the largest process: {outcome.largest_mb:.0f} MB",
    ]
    notes += [f"TROUBLE: {text}" for text in outcome.trouble]
    for word, texts in (("NEITHER", outcome.neither), ("WRONG", outcome.wrong)):
        notes += [f"{word}: {text[:300]!r}" for text in texts[:20]]
    return Report(
        name="damage",
        title="Damaged and unusual files",
        machine=where,
        settings={
            "workers": given.workers,
            "time limit": f"{given.time_limit:g} s",
            "seed": given.seed,
            "seconds": seconds,
        },
        columns=("what", "files", *FATES),
        rows=rows,
        notes=notes,
    )


if __name__ == "__main__":
    main()
