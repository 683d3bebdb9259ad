"""Put finished models into the package, in half precision: what `videocrafter generate` uses by default."""

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from videocrafter.cli.quiet_libraries import silence_libraries
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.loading import load_pipeline

ASSETS = Path(__file__).parents[1] / "src" / "videocrafter" / "assets" / "models"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--t2v", type=Path, help="final folder of tiny-t2v")
    parser.add_argument("--i2v", type=Path, help="final folder of tiny-i2v")
    parser.add_argument("--judge", type=Path, help="final folder of tiny-judge")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder that they go to; default: the package's")
    return parser.parse_args(arguments)


def main() -> None:
    given = parse()
    silence_libraries()
    for name, source in (("tiny-t2v", given.t2v), ("tiny-i2v", given.i2v)):
        if source is not None:
            pipeline = load_pipeline(source, dtype=torch.float16)
            ship(given.assets / name, pipeline.save_pretrained)
    if given.judge is not None:
        judge = VideoJudge.from_pretrained(given.judge, torch_dtype=torch.float16)
        ship(given.assets / "judge", judge.save_pretrained)


def ship(folder: Path, save: Callable[[Path], object]) -> None:
    """Replace the shipped folder only when the new one is complete."""
    fresh = folder.with_name(f".new-{folder.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    save(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
