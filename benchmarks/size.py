"""How large the shipped assets are, part by part, against a budget of 40 MB, and what a wheel holds.

    python -m benchmarks.size
    python -m benchmarks.size --wheel dist/videocrafter-….whl

Without `--wheel` one is built from a copy of the sources. 1 MB is a million bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

from benchmarks.report import Report, add_output_arguments, publish
from videocrafter import __version__

BUDGET_MB = 40.0
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "videocrafter"
COLUMNS = ("part", "files", "MB", "% of the budget")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    wheel = parser.add_mutually_exclusive_group()
    wheel.add_argument("--wheel", type=Path, metavar="FILE", help="look into this wheel instead of building one")
    wheel.add_argument("--no-wheel", action="store_true", help="look at the assets only")
    add_output_arguments(parser)
    given = parser.parse_args(argv)
    if given.wheel is not None and not zipfile.is_zipfile(given.wheel):
        parser.error(f"--wheel {given.wheel} is no wheel; give a .whl file")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    files = asset_files()
    sizes = {name: path.stat().st_size for name, path in files.items()}
    rows = [*part_rows(sizes), _row("all assets", sizes.values())]
    notes = [f"the assets take {sum(sizes.values()) / 1e6:.1f} MB of {BUDGET_MB:g} MB", _twice(files)]
    if not given.no_wheel:
        with tempfile.TemporaryDirectory() as folder:
            wheel = given.wheel or build_wheel(Path(folder))
            more_rows, more_notes = wheel_contents(wheel, files)
        rows += more_rows
        notes += more_notes
    publish(
        Report(
            name="size",
            title="Size of what ships",
            machine={"videocrafter": __version__},
            settings={"budget in MB": BUDGET_MB},
            columns=COLUMNS,
            rows=rows,
            notes=notes,
        ),
        given,
    )


def asset_files() -> dict[str, Path]:
    """Every file that should ship beside the code, by its path inside the package."""
    found = {path.relative_to(PACKAGE): path for path in sorted((PACKAGE / "assets").rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if path.suffix not in (".py", ".pyc") and not any(part.startswith(".") for part in name.parts)
    }


def part_rows(sizes: Mapping[str, int]) -> list[tuple[object, ...]]:
    """A row for each part of each model, and for each other folder of the assets."""
    parts: dict[str, list[int]] = defaultdict(list)
    for name, size in sizes.items():
        folders = name.split("/")[1:-1]
        parts["/".join(folders[: 3 if folders[:1] == ["models"] else 1])].append(size)
    return [_row(part, of_part) for part, of_part in sorted(parts.items())]


def wheel_contents(wheel: Path, assets: Mapping[str, Path]) -> tuple[list[tuple[object, ...]], list[str]]:
    """Rows for the kinds of files in a wheel (unpacked) and for the wheel itself, and what it lacks."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
    kinds: dict[str, list[int]] = {"assets": [], "code": [], "about the package": []}
    for name, size in sizes.items():
        if not name.startswith("videocrafter/"):
            kinds["about the package"].append(size)
        else:
            kinds["code" if name.endswith((".py", "py.typed")) else "assets"].append(size)
    rows = [_row(f"in the wheel: {kind}", of_kind) for kind, of_kind in kinds.items()]
    rows.append(("the wheel, compressed", len(sizes), wheel.stat().st_size / 1e6, None))
    missing = [name for name in assets if f"videocrafter/{name}" not in sizes]
    complete = "the wheel holds every asset"
    return rows, [f"NOT IN THE WHEEL: {', '.join(missing)}" if missing else complete]


def build_wheel(folder: Path) -> Path:
    """Build a wheel from a copy of the sources, so that nothing is left behind in them."""
    copy = folder / "sources"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(copy)]
    done = subprocess.run(command + _build_flags(), capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        sys.exit(f"the wheel could not be built; use --wheel or --no-wheel. pip said:\n{done.stderr}")
    return wheels[0]


def _build_flags() -> list[str]:
    """Build with what is installed where that is new enough, which needs no network."""
    try:
        is_new = int(installed_version("setuptools").partition(".")[0]) >= 77
    except PackageNotFoundError:
        is_new = False
    return ["--no-build-isolation"] if is_new else []


def _row(part: str, sizes: Iterable[int]) -> tuple[object, ...]:
    values = list(sizes)
    megabytes = sum(values) / 1e6
    return part, len(values), megabytes, 100 * megabytes / BUDGET_MB


def _twice(files: Mapping[str, Path]) -> str:
    """What would be saved if equal files shipped once."""
    seen: set[bytes] = set()
    repeated = 0
    for path in files.values():
        digest = hashlib.sha256(path.read_bytes()).digest()
        repeated += path.stat().st_size if digest in seen else 0
        seen.add(digest)
    return f"{repeated / 1e6:.1f} MB of it are copies of other shipped files"


if __name__ == "__main__":
    main()
