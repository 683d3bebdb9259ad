"""Put finished models into the package, in half precision: what `videocrafter generate` uses by default."""

import argparse
import shutil
from pathlib import Path

import torch

from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.loading import load_pipeline

ASSETS = Path(__file__).parents[1] / "src" / "videocrafter" / "assets" / "models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--t2v", type=Path, help="final folder of tiny-t2v")
    parser.add_argument("--i2v", type=Path, help="final folder of tiny-i2v")
    parser.add_argument("--judge", type=Path, help="final folder of tiny-judge")
    given = parser.parse_args()
    for name, source in (("tiny-t2v", given.t2v), ("tiny-i2v", given.i2v)):
        if source is not None:
            ship(
                name, lambda folder, source=source: load_pipeline(source, dtype=torch.float16).save_pretrained(folder)
            )
    if given.judge is not None:
        judge = VideoJudge.from_pretrained(given.judge, torch_dtype=torch.float16)
        ship("judge", judge.save_pretrained)


def ship(name: str, save) -> None:
    """Replace the shipped folder only when the new one is complete."""
    folder = ASSETS / name
    fresh = folder.with_name(f".new-{name}")
    shutil.rmtree(fresh, ignore_errors=True)
    save(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
