"""Results of a benchmark as a Markdown table, and as JSON with every reading and the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_BUSY_LOAD = 0.5


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of one benchmark.

    Attributes:
        name: name of the output files.
        title: heading of the table.
        settings: settings that the results depend on.
        columns, rows: the table.
        notes: sentences to print below the table.
        turns: readings of each variant, in the order of the rounds.
        machine: the machine and the software versions.
    """

    name: str
    title: str
    settings: Mapping[str, object]
    columns: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]
    machine: Mapping[str, object]
    notes: Sequence[str] = ()
    turns: Mapping[str, Sequence[Mapping[str, float]]] | None = None

    def markdown(self) -> str:
        """Return heading, machine, settings, table and notes."""
        lines = [f"### {self.title}", "", _in_words(self.machine), "", _in_words(self.settings), ""]
        lines += [_row(self.columns), _row(["---"] + ["---:"] * (len(self.columns) - 1))]
        lines += [_row([_shown(value) for value in row]) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def as_json(self) -> str:
        """Return all fields, with the table's rows as objects."""
        values = asdict(self) | {"rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows]}
        del values["columns"]
        return json.dumps(values, indent=1) + "\n"


def add_report_arguments(parser: argparse.ArgumentParser, repeats: int) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument("--repeats", type=positive, default=repeats, help="number of rounds (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, to check that the script runs")
    add_output_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the output."""
    parser.add_argument("--json", action="store_true", help="print JSON with every reading instead of the table")
    parser.add_argument(
        "--output", type=_new_results, metavar="DIR", help="also write the table and the JSON to this folder"
    )


def positive(text: str) -> int:
    """Parse a whole number from 1, for argparse."""
    if (number := int(text)) < 1:
        raise ValueError(f"{number} is less than 1")
    return number


def publish(report: Report, given: argparse.Namespace) -> None:
    """Print the result and write it to the folder of `--output`."""
    print(report.as_json() if given.json else report.markdown(), end="")
    if given.output is not None:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / f"{report.name}.md").write_text(report.markdown(), encoding="utf-8")
        (given.output / f"{report.name}.json").write_text(report.as_json(), encoding="utf-8")


def machine() -> dict[str, object]:
    """Return processor, cores, load and versions; warn on stderr if the machine is busy.

    Call it before measuring, because the benchmark itself adds to the load.
    """
    has_load = hasattr(os, "getloadavg")
    load = round(os.getloadavg()[0], 2) if has_load else None
    if load is not None and load > _BUSY_LOAD:
        print(f"warning: the load is {load}, so other programs are running; times will be too long", file=sys.stderr)
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "load before": load,
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "diffusers", "transformers", "videocrafter")},
    }


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _new_results(text: str) -> Path:
    folder = Path(text)
    if folder.exists() and (not folder.is_dir() or any(folder.glob("*.json"))):
        raise argparse.ArgumentTypeError(f"{text} is a file or holds results already; name another folder")
    return folder


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _in_words(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items() if value is not None)


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
