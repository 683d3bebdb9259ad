"""`videocrafter publish`: folders, uploads and errors."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file

from tests.command_line import Result, call
from tests.fake_hub import FakeHub, uploading_hub
from videocrafter.cli.weights import publish as publish_module
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import probe
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import LORA_FILE
from videocrafter.training.saving.checkpoint import Checkpoints

Run = Callable[..., Result]
STAGES = ("low", "high")


def stage(name: str) -> dict[str, Any]:
    task = {"phase": "text_to_video", "batch_size": 4, "sources": ["webvid:/home/bob/webvid/train.csv"]}
    return {"name": name, "num_steps": 100, "optimizer": {"lr": 1e-3}, "task": task}


def copy_model(model: Path, target: Path) -> None:
    shutil.copytree(model, target, dirs_exist_ok=True)
    config = json.loads((target / "unet" / "config.json").read_text())
    config["_name_or_path"] = str(target / "unet")
    (target / "unet" / "config.json").write_text(json.dumps(config))


@pytest.fixture
def run(tmp_path: Path, t2v_folder: Path) -> Path:
    """A run with two stages, two checkpoints of the second, sample sheets and a result."""
    root = tmp_path / "films"

    def write(folder: Path) -> None:
        copy_model(t2v_folder, folder)
        (folder / "training_state").mkdir()
        (folder / "training_state" / "state.pt").write_bytes(b"state")

    checkpoints = Checkpoints(root / "checkpoints", "high", keep=5)
    for step in (40, 60):
        checkpoints.save(step, write)
    checkpoints.mark_best(40, "loss", 0.5)
    copy_model(t2v_folder, root / "final")
    record = {"num_steps": 100, "stage": stage("high"), "versions": {"videocrafter": "0.1.0", "torch": "2.13"}}
    (root / "final" / "training.json").write_text(json.dumps(record))
    recipe = {
        "name": "garden",
        "seed": 7,
        "init": str(tmp_path / "start"),
        "stages": [stage(name) for name in STAGES],
    }
    (root / "config.json").write_text(json.dumps(recipe))
    for step in (20, 40, 100):
        sheet = root / "samples" / f"high-step-{step:08d}" / "samples.png"
        sheet.parent.mkdir(parents=True)
        write_image(sheet, torch.full((4, step, 3), 9, dtype=torch.uint8).numpy())
    return root


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """The result of a LoRA run."""
    root = tmp_path / "style"
    final = root / "final"
    final.mkdir(parents=True)
    save_file({"unet.a.lora_A.weight": torch.ones(4, 8), "unet.a.lora_B.weight": torch.ones(8, 4)}, final / LORA_FILE)
    (final / "training.json").write_text(json.dumps({"num_steps": 100, "stage": stage("high")}))
    recipe = {"name": "style", "seed": 7, "init": "vc2-t2v-512", "stages": [stage("high")]}
    (root / "config.json").write_text(json.dumps(recipe))
    return root


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with uploading_hub(tmp_path / "hub", monkeypatch) as hub:
        yield hub


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_as_a_folder(cli: Run, run: Path, t2v_folder: Path, tmp_path: Path):
    done = cli("publish", run, "--licence", "apache-2.0", "--data", "Films of mine.", "-o", tmp_path / "away")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{run / 'final'}: a pipeline, text to video, recipe garden" in done.stdout
    assert f"Wrote {tmp_path / 'away'}. Nothing was uploaded." in done.stdout
    files = files_of(tmp_path / "away")
    assert files.keys() == {*files_of(t2v_folder), "README.md", "training.json", "samples.png"}
    assert files["samples.png"] == (run / "samples" / "high-step-00000100" / "samples.png").read_bytes()
    for name, content in files.items():
        assert name.endswith(".safetensors") or str(tmp_path).encode() not in content, name
        assert name.endswith(".safetensors") or b"/home/" not in content, name
    card = ModelCard(files["README.md"].decode())
    assert (card.data.license, card.data.pipeline_tag) == ("apache-2.0", "text-to-video")
    facts = ("# away", "`garden`", "Seed: 7", "Films of mine.", "- WebVid train.csv", "torch 2.13", "](samples.png)")
    assert [fact for fact in facts if fact not in card.content] == []
    json.loads(files["training.json"])
    made = cli("generate", "a cat", "--model", tmp_path / "away", "-o", tmp_path / "cat.gif")
    assert made.exit_code == 0, made.output


@pytest.mark.parametrize(
    ("chosen", "step", "sample"),
    [("latest", 60, 40), ("best", 40, 40), ("60", 60, 40), ("high-step-00000040", 40, 40)],
)
def test_a_checkpoint_of_a_run(cli: Run, run: Path, tmp_path: Path, chosen: str, step: int, sample: int):
    done = cli("publish", run, "--checkpoint", chosen, "--licence", "mit", "-o", tmp_path / "away")
    assert done.exit_code == 0, done.output
    assert f"high-step-{step:08d}: a pipeline, text to video" in done.stdout
    assert "Not published: training_state/" in done.stdout
    files = files_of(tmp_path / "away")
    assert not any("training_state" in name for name in files)
    assert f"| `high` | {step} of 100 |" in files["README.md"].decode()
    sheet = run / "samples" / f"high-step-{sample:08d}" / "samples.png"
    assert files["samples.png"] == sheet.read_bytes()
    direct = cli(
        "publish", run / "checkpoints" / f"high-step-{step:08d}", "--licence", "mit", "-o", tmp_path / "same"
    )
    assert direct.exit_code == 0, direct.output
    assert files_of(tmp_path / "same").keys() == files.keys()


def test_a_lora(cli: Run, lora: Path, tmp_path: Path):
    done = cli("publish", lora, "--licence", "mit", "-o", tmp_path / "away")
    assert (done.exit_code, done.stderr) == (0, "")
    files = files_of(tmp_path / "away")
    assert files.keys() == {LORA_FILE, "README.md", "training.json"}
    data = ModelCard(files["README.md"].decode()).data.to_dict()
    assert data["tags"] == ["videocrafter", "text-to-video", "lora"]
    assert (data["base_model"], data["base_model_relation"]) == ("VideoCrafter/VideoCrafter2", "adapter")
    named = cli("publish", lora, "--licence", "mit", "--dry-run", "--base-model", "i2v-512")
    assert "pipeline_tag: image-to-video" in named.stdout
    again = cli("publish", lora, "--licence", "mit", "-o", tmp_path / "away", "--overwrite")
    assert again.exit_code == 0


def test_a_lora_alone_needs_its_base_named(cli: Run, lora: Path, tmp_path: Path):
    shutil.copytree(lora / "final", tmp_path / "alone")
    (tmp_path / "alone" / "training.json").unlink()
    shown = cli("publish", tmp_path / "alone", "--licence", "mit", "--dry-run")
    assert "Note: the card does not name the base model of the LoRA; pass it with --base-model" in shown.stdout
    named = cli("publish", tmp_path / "alone", "--licence", "mit", "--dry-run", "--base-model", "ann/base")
    assert "base_model: ann/base" in named.stdout
    assert "--base-model" not in named.stdout
    assert "write USER/NAME" in refused(
        cli("publish", tmp_path / "alone", "--licence", "mit", "--dry-run", "--base-model", "/home/bob/base")
    )


def test_a_lora_of_peft_gets_a_card_instead_of_the_template(cli: Run, tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file({"base_model.model.a.to_q.lora_A.weight": torch.ones(4, 2)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"lora_alpha": 8, "base_model_name_or_path": "/home/bob/unet"}')
    (folder / "README.md").write_text(
        "---\nbase_model: /home/bob/unet\n---\n- **Developed by:** [More Information Needed]\n"
    )
    options = ["--licence", "mit", "--base-model", "tiny-t2v", "--data", "ten clips"]
    done = cli("publish", folder, *options, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Note: the existing README.md is a template that was not filled in; a new card is written" in done.stdout
    files = files_of(tmp_path / "out")
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert ModelCard(files["README.md"].decode()).data.license == "mit"
    assert not any(b"/home/bob" in content for content in files.values())


def test_a_lora_on_a_model_of_ones_own(cli: Run, lora: Path, i2v_folder: Path):
    recipe = json.loads((lora / "config.json").read_text())
    (lora / "config.json").write_text(json.dumps({**recipe, "init": str(i2v_folder)}))
    shown = cli("publish", lora, "--licence", "mit", "--dry-run").stdout
    assert "pipeline_tag: image-to-video" in shown
    assert "base_model" not in shown.partition("# style")[0].partition("library_name")[2]
    assert "Note: the card does not name the base model" in shown
    assert str(i2v_folder.parent) not in shown


def test_a_dry_run_writes_nothing(cli: Run, run: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    shown = cli("publish", run, "--to", "ann/films", "--licence", "mit", "--dry-run")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "unet/diffusion_pytorch_model.safetensors" in shown.stdout
    assert "license: mit" in shown.stdout
    assert "hf download ann/films" in shown.stdout
    assert "nothing was uploaded" in shown.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_the_python_of_the_card_runs(cli: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cli("publish", run, "--licence", "mit", "-o", tmp_path / "away")
    shown = cli("publish", run, "--to", "ann/films", "--licence", "mit", "--dry-run").stdout
    requested: list[str] = []

    def snapshot_download(repo_id: str) -> str:
        requested.append(repo_id)
        return str(tmp_path / "away")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    code, with_diffusers = re.findall(r"```python\n(.*?)```", shown, flags=re.DOTALL)
    exec(code, {})
    assert requested == ["ann/films"]
    assert probe("video.mp4").num_frames == 4

    # diffusers copies the folder's code here before it imports it.
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    names: dict[str, Any] = {}
    assert '"ann/films"' in with_diffusers
    exec(with_diffusers.replace('"ann/films"', repr(str(tmp_path / "away"))), names)
    assert isinstance(names["pipeline"], TextToVideoPipeline)


def test_a_card_that_is_there_is_kept(cli: Run, run: Path, tmp_path: Path):
    final = run / "final"
    card = "---\nlicense: mit\n---\n# Mine\n![](pictures/owl.png) ![](../config.json) ![](gone.png)\n"
    (final / "README.md").write_text(card)
    (final / "pictures").mkdir()
    (final / "pictures" / "owl.png").write_bytes(b"owl")
    (final / "pictures" / "cat.png").write_bytes(b"cat")
    done = cli("publish", run, "-o", tmp_path / "away")
    assert done.exit_code == 0, done.output
    assert "licence of the weights: mit" in done.stdout
    assert "Note: the existing README.md is published unchanged" in done.stdout
    assert "Not published: pictures/cat.png" in done.stdout
    files = files_of(tmp_path / "away")
    assert files["README.md"].decode() == card
    assert files["pictures/owl.png"] == b"owl"
    assert not any("config.json" in name and "/" not in name for name in files)
    assert "--licence and --data cannot be used" in refused(
        cli("publish", run, "--licence", "mit", "--data", "x", "--dry-run")
    )
    (final / "README.md").write_text("# Mine\n")
    assert "has no licence" in refused(cli("publish", run, "--dry-run"))


def test_what_was_written_can_be_published_again(cli: Run, run: Path, tmp_path: Path):
    assert cli("publish", run, "--licence", "mit", "-o", tmp_path / "away").exit_code == 0
    assert cli("publish", tmp_path / "away", "-o", tmp_path / "further").exit_code == 0
    assert files_of(tmp_path / "away") == files_of(tmp_path / "further")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["films"], "no destination; pass --to USER/NAME"),
        (["films", "--to", "ann/films", "--yes"], "the licence of the weights is unknown"),
        (["films", "--dry-run", "--licence", "apache2"], "did you mean apache-2.0"),
        (["films", "--to", "films", "--licence", "mit"], "write USER/NAME"),
        (
            ["films", "--dry-run", "--licence", "mit", "--checkpoint", "7"],
            "no checkpoint '7'; checkpoints: high-step-",
        ),
        (["films/final", "--dry-run", "--licence", "mit", "--checkpoint", "latest"], "needs a training run"),
        (["films/samples", "--dry-run", "--licence", "mit"], "neither a pipeline"),
        (["nowhere", "--dry-run", "--licence", "mit"], "nowhere does not exist; pass the folder"),
        (["films/config.json", "--dry-run", "--licence", "mit"], "config.json is a file; pass the folder"),
        (["films", "-o", "films/final", "--overwrite", "--licence", "mit"], "overlap; choose another folder"),
        (["films", "-o", "films/final/away", "--licence", "mit"], "overlap; choose another folder"),
        (["films", "-o", "films", "--overwrite", "--licence", "mit"], "overlap; choose another folder"),
        (["films", "-o", "taken", "--licence", "mit"], "taken already exists"),
        (["films", "-o", "taken", "--licence", "mit", "--overwrite"], "holds something other than a model"),
    ],
)
def test_bad_input(
    cli: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "diary.txt").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert reason in refused(cli("publish", *arguments))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_a_result(cli: Run, run: Path):
    shutil.rmtree(run / "final")
    assert "pass --checkpoint latest" in refused(cli("publish", run, "--licence", "mit", "--dry-run"))


def test_the_home_folder_is_not_told(cli: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "ann"))
    message = refused(
        cli("publish", run, "--licence", "mit", "--data", f"all of {tmp_path / 'ann'}/films", "--dry-run")
    )
    assert f"the path of your home folder ({tmp_path / 'ann'}) is in README.md" in message


def test_an_upload(cli: Run, run: Path, hub: FakeHub, tmp_path: Path):
    done = cli("publish", run, "--to", "ann/films", "--licence", "mit", "--private", "--yes")
    assert done.exit_code == 0, done.output
    assert "Destination: ann/films, a new private repository." in done.stdout
    assert f"Uploaded: {hub.url}/ann/films" in done.stdout
    assert hub.repositories == {"ann/films": True}
    cli("publish", run, "--to", "ann/films", "--licence", "mit", "-o", tmp_path / "films-on-hub")
    uploaded = {name.removeprefix("ann/films/"): content for name, content in hub.files.items()}
    assert uploaded == files_of(tmp_path / "films-on-hub")


def test_a_repository_with_content_is_replaced_only_if_allowed(cli: Run, run: Path, hub: FakeHub):
    hub.repositories["ann/films"] = False
    arguments = ("publish", run, "--to", "ann/films", "--licence", "mit", "--yes")
    assert cli(*arguments).exit_code == 0  # exists, but empty
    hub.files["ann/films/old.safetensors"] = b"old"
    num_requests = len(hub.requests)
    assert "already holds 15 files; choose another name, or pass --overwrite" in refused(cli(*arguments))
    assert "already exists and is public" in refused(cli(*arguments, "--overwrite", "--private"))
    assert not any(request.startswith("POST") for request, _ in hub.requests[num_requests:])
    done = cli(*arguments, "--overwrite")
    assert done.exit_code == 0, done.output
    assert "an existing public repository; its 15 files will be replaced" in done.stdout
    assert "ann/films/old.safetensors" not in hub.files


def test_nobody_to_ask(cli: Run, run: Path, hub: FakeHub):
    message = cli("publish", run, "--to", "ann/films", "--licence", "mit")
    assert "pass --yes to upload" in refused(message)
    assert "unet/config.json" in message.stdout
    assert hub.requests == []


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_somebody_is_asked(run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, answer: str, status: int):
    monkeypatch.setattr(publish_module, "_is_terminal", lambda: True)
    arguments = ["publish", str(run), "--to", "ann/films", "--licence", "mit"]
    done = call(arguments, catch_exceptions=True, input=answer)
    assert done.exit_code == status, done.output
    question = done.stdout.index("Upload?")
    for message in ("unet/config.json", "Destination: ann/films, a new public repository."):
        assert done.stdout.index(message) < question
    assert bool(hub.files) == (status == 0)


@pytest.mark.parametrize(
    ("refusal", "message"),
    [("Forbidden", "may not write to 'ann'"), ("Unauthorized", "token is wrong or has expired")],
)
def test_what_the_hub_says_is_one_line(cli: Run, run: Path, hub: FakeHub, refusal: str, message: str):
    hub.refuses_writing = refusal
    done = cli("publish", run, "--to", "ann/films", "--licence", "mit", "--yes")
    assert message in refused(done)


def test_no_token(cli: Run, run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    done = cli("publish", run, "--to", "ann/films", "--licence", "mit", "--yes")
    assert "`hf auth login`" in refused(done)
    assert hub.requests == []
