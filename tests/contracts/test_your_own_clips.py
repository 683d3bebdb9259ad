"""The commands of the guide from clips to a LoRA run in order, with two training steps instead of hundreds."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from tests.command_line import call

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "your_own_clips.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ (.*)$", GUIDE, flags=re.MULTILINE)]
QUICK = ["num_steps=2", "precision=fp32", "task.data.num_workers=0", "task.validation.num_clips=1"]
QUICK += ["task.samples.num_inference_steps=1", "task.samples.count=1"]
QUICK += ["task.data.batch_size=1", "optimizer.accumulate=1", "task.validation.timesteps=500"]


def quick(command: list[str]) -> list[str]:
    extra = [word for setting in QUICK for word in ("--set", f"stages.*.{setting}")]
    return command + {"train": extra, "generate": ["--steps", "2"]}.get(command[0], [])


@pytest.mark.slow
def test_the_guide_leads_from_clips_to_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for program, *words in COMMANDS:
        if program == "python":
            monkeypatch.setattr("sys.argv", words)
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
            assert len(list(Path("clips").glob("*.mp4"))) == len(list(Path("clips").glob("*.txt"))) == 10
            continue
        assert program == "videocrafter"
        result = call(quick(words))
        assert result.exit_code == 0, (words, result.output)
    assert [path.name for path in Path("outputs/night/final").glob("*.safetensors")] == [
        "pytorch_lora_weights.safetensors"
    ]
    assert Path("night.mp4").stat().st_size > 0
    assert (list(Path("outputs/overfit/samples").rglob("samples.png"))) != []


def test_every_setting_of_the_guides_table_exists():
    from videocrafter.training.recipes.by_name import RECIPES
    from videocrafter.training.recipes.overrides import setting_paths

    known = {path.split(".", 2)[2] for path in setting_paths(RECIPES["lora"]()) if path.startswith("stages.")}
    named = re.findall(r"`((?:task|optimizer)\.[\w.]+?)(?:=[^`]*)?`", GUIDE)
    assert len(named) > 5
    assert {name.rstrip(".") for name in named} <= known | {"task.data.cutting"}
