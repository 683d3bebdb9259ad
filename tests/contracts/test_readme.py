"""The README, and the pages that continue it, are true: their commands and their Python run, their files exist.

The commands run in the order of the pages, in one empty folder, as a reader would type them, but in one process:
most of their time would go to imports. Long ones are shortened: videos take two sampling steps, the toy training
takes fewer steps, others print their configuration, and the exam asks few questions. The official checkpoint is
downloaded from a hub on this computer, which holds a small one in its place.
"""

import io
import itertools
import json
import os
import re
import shlex
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.command_line import call
from tests.fake_hub import running_hub
from tests.official_checkpoints import random_checkpoint, small_params
from tests.warm_process import WarmProcess
from videocrafter.checkpoints.hub import download
from videocrafter.checkpoints.official.official_model import official_model_from_config
from videocrafter.evaluation.exam.exam import ExamConfig
from videocrafter.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("command_line", "exam", "evaluation", "python")),
]
TEXTS = [page.read_text(encoding="utf-8") for page in PAGES]
README = TEXTS[0]
FEW_PROMPTS = ["--prompts", "2", "--steps", "1"]
SHORT_EXAM = ["--quick", *FEW_PROMPTS]
# Half the steps; each stage still validates and samples once.
SHORT_TRAINING = [
    word for name in ("num_steps", "validate_every", "sample_every") for word in ("--set", f"stages.*.{name}=2")
]
FEW_STEPS = ["--steps", "2"]
SMALL = ["--frames", "2", "--height", "64", "--width", "64"]
NOT_COMMANDS = {"make demo", ". .venv/bin/activate"}


def fenced(language: str, text: str) -> list[str]:
    """Contents of all code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def option(arguments: list[str], *names: str) -> str | None:
    """Value of an option, by any of its names."""
    return next((value for name, value in itertools.pairwise(arguments) if name in names), None)


def commands(text: str) -> list[str]:
    """The lines of `console` blocks that begin with a prompt."""
    lines = [line for block in fenced("console", text) for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


COMMANDS = list(dict.fromkeys(command for text in TEXTS for command in commands(text)))


@dataclass(frozen=True)
class Done:
    """One command after it ran: its arguments after `videocrafter`, exit status and output."""

    arguments: list[str]
    status: int
    output: str
    errors: str


def cut_short(arguments: list[str]) -> list[str]:
    """Shorten a command that would take long."""
    if arguments[:2] == ["train", "smoke"]:
        return [*arguments, *SHORT_TRAINING]
    if arguments[:1] == ["train"] and "--dry-run" not in arguments:
        return [*arguments, "--dry-run"]
    if arguments[:1] == ["evaluate"] and Path(arguments[1]).is_dir():
        return arguments
    if arguments[:1] == ["evaluate"]:
        return [*arguments, *(FEW_PROMPTS if "--protocol" in arguments else SHORT_EXAM)]
    if arguments[:1] == ["generate"] and "--from" not in arguments:  # whose recording sets the steps
        return [*arguments, *FEW_STEPS, *(SMALL if is_official(arguments) else [])]
    return arguments


def is_official(arguments: list[str]) -> bool:
    """Whether a command generates with a checkpoint from the hub."""
    preset = PRESETS.get(option(arguments, "--model", "-m") or "")
    return arguments[:1] == ["generate"] and preset is not None and preset.hub_id is not None


@contextmanager
def hub_with(name: str, cache: Path) -> Iterator[None]:
    """A hub that holds a small network under the name of an official checkpoint."""
    params = small_params(scale=None, temporal_conv=False, fps_cond=False, use_relative_position=True)
    params["cond_stage_config"]["params"]["arch"]["text_cfg"]["vocab_size"] = 49408  # CLIP's, as the tokenizer's
    buffer = io.BytesIO()
    torch.save({"state_dict": random_checkpoint(official_model_from_config({"params": params}))}, buffer)
    preset = PRESETS[name]
    with pytest.MonkeyPatch.context() as monkeypatch, running_hub(cache, monkeypatch) as hub:
        monkeypatch.setattr(download, "_check_space", lambda *_: None)
        hub.files[f"{preset.hub_id}/{preset.hub_file}"] = buffer.getvalue()
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    for name in ("examples", "runs"):  # a command may read them
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def history(folder: Path) -> dict[str, Done]:
    """Every command of the pages, run in their order in one folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(ExamConfig, "quick", few_questions)
        return {command: run(shlex.split(command)[1:]) for command in COMMANDS}


def few_questions() -> ExamConfig:
    """Return an exam with every part, each as short as it can be."""
    return ExamConfig(num_prompts=2, num_speed_prompts=2, num_images=1, num_variety_prompts=1, num_variety_seeds=2)


def run(command: list[str]) -> Done:
    arguments = cut_short(command)
    if is_official(command):
        with hub_with(option(command, "--model") or "", Path("hub").resolve()):
            return run_here(arguments)
    return run_here(arguments)


def run_here(arguments: list[str]) -> Done:
    done = call(arguments, catch_exceptions=True, env={"COLUMNS": "100"})
    errors = "".join(traceback.format_exception(done.exception)) if done.exception else ""
    return Done(arguments, done.exit_code, done.stdout, done.stderr + errors)


def named_outputs(folder: Path, arguments: list[str]) -> dict[str, list[Path]]:
    """Map each output that a command names to the files that exist under that name."""
    output, sheet = option(arguments, "-o", "--output"), option(arguments, "--contact-sheet")
    if output is None or "--dry-run" in arguments:
        return {}
    path = folder / output
    if arguments[0] == "train":
        return {f"{output}/final": list((path / "final").glob("model_index.json"))}
    if arguments[0] == "publish":
        return {f"{output}/{name}": list(path.glob(name)) for name in ("README.md", "model_index.json")}
    if arguments[0] == "evaluate":
        return {f"{output}/report.json": list(path.glob("report.json"))}
    videos = [path] if path.exists() else sorted(path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}"))
    found = {output: videos}
    for video in videos:
        recording = video.with_name(f"{video.name}.json")
        found[recording.name] = [recording] if recording.is_file() else []
    if sheet is not None:
        found[sheet] = list(folder.glob(sheet))
    return found


def test_the_readme_fits_on_a_page_and_runs_each_main_command():
    assert len(README.splitlines()) < 200
    assert {shlex.split(command)[1] for command in commands(README)} == {"generate", "train", "evaluate"}
    assert any("--image" in command for command in commands(README))
    assert any("--model t2v-512" in command for command in commands(README))


def test_the_command_line_page_has_an_example_for_most_commands():
    assert {shlex.split(command)[1] for command in COMMANDS} == {"models", "generate", "train", "evaluate", "publish"}
    assert all(command.startswith("videocrafter ") for command in COMMANDS)
    assert any("--from" in command for command in COMMANDS)


def test_every_command_of_the_readme_is_executed():
    shown = [line for block in fenced("sh", README) for line in block.splitlines()]
    assert set(shown) - NOT_COMMANDS - set(COMMANDS) == set()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_pages_does_what_it_says(command: str, folder: Path, history: dict[str, Done]):
    done = history[command]
    assert done.status == 0, done.errors
    assert "Traceback" not in done.errors
    if "--dry-run" in done.arguments:
        assert json.loads(done.output)["stages"]
    elif done.arguments[0] != "train":
        assert done.output.strip()
    missing = [name for name, found in named_outputs(folder, done.arguments).items() if not found]
    assert missing == []


def in_two_steps(code: str) -> str:
    """Let every call with seeds take two sampling steps."""
    return re.sub(r"\bseeds=", "num_inference_steps=2, seeds=", re.sub(r"num_inference_steps=\d+, ", "", code))


@pytest.mark.slow
def test_the_python_of_the_pages_runs_and_writes_its_videos(folder: Path, history: dict[str, Done]):
    assert all(done.status == 0 for done in history.values())  # it starts from a picture that a command made
    code = "\n".join(block for text in TEXTS for block in fenced("python", text))
    process = WarmProcess(in_two_steps(code), cwd=folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    written = re.findall(r'write_video\("([^"]+)"', code)
    assert written
    assert [name for name in written if not (folder / name).is_file()] == []


def test_the_quick_start_begins_with_make_demo():
    (start,) = re.findall(r"^## Quick start$(.*?)^## ", README, flags=re.MULTILINE | re.DOTALL)
    assert next(line for block in fenced("sh", start) for line in block.splitlines()) == "make demo"


@pytest.mark.slow
def test_make_demo_writes_its_videos_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    recipe = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, env=settings, capture_output=True, encoding="utf-8", check=True
    ).stdout.replace("\\\n", " ")
    commands = [shlex.split(line) for line in recipe.splitlines() if "videocrafter generate" in line]
    assert len(commands) == 2
    assert "mkdir -p demo" in recipe
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    for command in commands:
        done = call(command[1:])
        assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"rocket.mp4", "rocket.png", "ladybug.mp4", "ladybug.png"} <= written


def tree() -> list[tuple[str, str]]:
    """(path, note) of every line of the annotated tree below its root."""
    lines = next(block for block in fenced("text", README) if "├──" in block).splitlines()[1:]
    parents: list[str] = []
    found = []
    for line in lines:
        match = re.fullmatch(r"((?:│   |    )*)(?:├── |└── )(\S+)(?:\s+(.*))?", line)
        assert match is not None, f"not a line of a tree: {line!r}"
        depth = len(match[1]) // 4
        parents = [*parents[:depth], match[2].rstrip("/")]
        found.append(("/".join(parents) + ("/" if match[2].endswith("/") else ""), match[3] or ""))
    return found


def test_every_file_of_the_tree_exists():
    paths = [path for path, _ in tree()]
    assert "src/videocrafter/models/" in paths  # or the tree was misread
    wrong = [
        path for path in paths if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())
    ]
    assert wrong == []


def test_the_tree_says_what_each_line_is():
    inner = {path.rpartition("/")[0] for path in (path.rstrip("/") for path, _ in tree())}
    # A folder whose contents are listed below it may speak through them.
    assert [path for path, note in tree() if not note and path.rstrip("/") not in inner] == []


def test_every_room_is_in_the_tree():
    rooms = {path.parent.name for path in (ROOT / "src" / "videocrafter").glob("*/__init__.py")}
    assert {f"src/videocrafter/{room}/" for room in rooms} - {path for path, _ in tree()} == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))], ids=lambda path: path.name)
def test_every_picture_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"", text)
    local = [path for pair in pictures for path in pair if path and "://" not in path]
    assert local or page.name != "README.md" or page.parent != ROOT
    assert [path for path in local if not (page.parent / path).is_file()] == []


def test_no_blank_is_left_to_fill_in():
    assert re.findall(r"\{\{.*?\}\}", README) == []
