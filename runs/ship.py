"""Copy trained models into the package in half precision, as the defaults of `videocrafter generate`."""

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from videocrafter.cli.quiet_libraries import silence_libraries
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import SHARED, read_model_index
from videocrafter.presets import MODEL_INDEX

ASSETS = Path(__file__).parents[1] / "src" / "videocrafter" / "assets" / "models"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--t2v", type=Path, help="final folder of tiny-t2v")
    parser.add_argument("--fast", type=Path, help="final folder of tiny-distill")
    parser.add_argument("--i2v", type=Path, help="final folder of tiny-i2v")
    parser.add_argument("--judge", type=Path, help="final folder of tiny-judge")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="output folder; default: the package's models")
    return parser.parse_args(arguments)


def main() -> None:
    given = parse()
    silence_libraries()
    for name, source in (("tiny-t2v", given.t2v), ("tiny-t2v-fast", given.fast), ("tiny-i2v", given.i2v)):
        if source is not None:
            pipeline = load_pipeline(source, dtype=torch.float16)
            if name == "tiny-t2v-fast":
                name_teacher(pipeline, given.assets / "tiny-t2v")
            ship(given.assets / name, pipeline.save_pretrained)
    for name in ("tiny-t2v-fast", "tiny-i2v"):
        share(given.assets / name, given.assets / "tiny-t2v")
    if given.judge is not None:
        judge = VideoJudge.from_pretrained(given.judge, torch_dtype=torch.float16)
        ship(given.assets / "judge", judge.save_pretrained)


def name_teacher(student: Any, teacher: Path) -> None:
    """Make the preset "quality" of a student take its teacher."""
    recommended = read_model_index(teacher)["defaults"]
    quality = {"model": teacher.name} | {key: recommended[key] for key in ("num_inference_steps", "guidance_scale")}
    defaults = replace(student.generation_defaults, presets={"quality": quality})
    student.register_to_config(defaults=defaults.to_config())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def forget_paths(folder: Path) -> None:
    """Remove the folder that each network was loaded from, which saved configs contain."""
    for path in (folder / MODEL_INDEX, *folder.rglob("config.json")):
        if not path.is_file():
            continue
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def share(folder: Path, owner: Path) -> None:
    """Replace each part of a model that equals that of `owner` with a reference to it."""
    if not (folder.is_dir() and owner.is_dir()):
        return
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        if not any(part.glob("*.safetensors")) or contents(part) != contents(owner / part.name):
            continue
        for file in part.iterdir():
            file.unlink()
        (part / SHARED).write_text(json.dumps({"model": owner.name}) + "\n", encoding="utf-8")
        print(f"{part}: same as in {owner.name}")


def ship(folder: Path, save: Callable[[Path], object]) -> None:
    """Replace a shipped model once its new folder is complete."""
    fresh = folder.with_name(f".new-{folder.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    save(fresh)
    forget_paths(fresh)
    # The package itself is the code that this file names.
    (fresh / "pipeline.py").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
