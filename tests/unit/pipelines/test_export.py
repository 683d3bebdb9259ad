"""Which files an export contains, and which it leaves out."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.tiny_models import save_tiny_pipeline
from videocrafter.pipelines.export import (
    Export,
    ExportedFile,
    left_out,
    lora_layers,
    naming,
    parameter_counts,
    plan_export,
    write_export,
)
from videocrafter.pipelines.generation_memory import count_parameters
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import SHARED, ModelFolderError
from videocrafter.presets import LORA_FILE

LORA = {"unet.a.to_q.lora_A.weight": torch.ones(4, 8), "unet.a.to_q.lora_B.weight": torch.ones(8, 4)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image-to-video folder as written by training, with local paths in it."""
    folder = save_tiny_pipeline(tmp_path / "i2v", image=True)
    for name in ("unet", "vae"):
        config = json.loads((folder / name / "config.json").read_text())
        config |= {"_name_or_path": f"/home/bob/run/stages/low/{name}", "note": "/home/bob/note"}
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "training_state").mkdir()
    (folder / "training_state" / "state.pt").write_bytes(b"state")
    (folder / "diary.txt").write_text("private")
    (folder / "unet" / "backup.pt").write_bytes(b"pickle")
    (folder / ".git").mkdir()
    return folder


def lora_folder(path: Path, metadata: dict[str, str] | None = None) -> Path:
    path.mkdir()
    save_file(LORA, path / LORA_FILE, metadata=metadata)
    return path


def written(export: Export, target: Path, *, link: bool = False) -> Path:
    target.mkdir()
    write_export(export.files, target, link=link)
    return target


@pytest.mark.parametrize("link", [False, True])
def test_the_export_is_the_model_and_nothing_else(folder: Path, tmp_path: Path, link: bool):
    export = plan_export(folder)
    target = written(export, tmp_path / "away", link=link)
    names = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert names == set(export.files)
    assert left_out(folder, export.files) == [".git/", "diary.txt", "training_state/", "unet/backup.pt"]
    assert export.num_bytes == sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    pipeline, before = load_pipeline(target), load_pipeline(folder)
    assert isinstance(pipeline, ImageToVideoPipeline)
    for part in ("unet", "vae", "text_encoder", "image_encoder", "image_projector"):
        weights, wanted = getattr(pipeline, part).state_dict(), getattr(before, part).state_dict()
        assert all(torch.equal(weights[name], value) for name, value in wanted.items())
    assert pipeline.generation_defaults == before.generation_defaults


def test_no_path_of_this_computer_leaves(folder: Path, tmp_path: Path):
    target = written(plan_export(folder), tmp_path / "away")
    for path in target.rglob("*.json"):
        assert "/home" not in path.read_text()
        assert "_name_or_path" not in path.read_text()
    assert json.loads((target / "unet" / "config.json").read_text())["note"] == "note"
    # Files without local paths are exported byte for byte.
    same = ("model_index.json", "tokenizer/tokenizer.json", "unet/diffusion_pytorch_model.safetensors")
    assert [name for name in same if (target / name).read_bytes() != (folder / name).read_bytes()] == []


def test_shared_parts_come_along(folder: Path, tmp_path: Path):
    for part in ("vae", "tokenizer"):
        shutil.copytree(folder / part, tmp_path / "owner" / part)
        shutil.rmtree(folder / part)
        (folder / part).mkdir()
        (folder / part / SHARED).write_text('{"model": "owner"}')
    export = plan_export(folder)
    assert not any(name.endswith(SHARED) for name in export.files)
    target = written(export, tmp_path / "away")
    assert parameter_counts(export) == parameter_counts(plan_export(target))
    shutil.rmtree(tmp_path / "owner")
    load_pipeline(target)


def test_parameters_are_counted(folder: Path):
    counts = parameter_counts(plan_export(folder))
    assert counts.keys() == {"unet", "vae", "text_encoder", "image_encoder", "image_projector"}
    assert sum(counts.values()) == count_parameters(folder).total


def test_a_lora(tmp_path: Path):
    folder = lora_folder(tmp_path / "lora")
    (folder / "LICENSE").write_text("mine")
    (folder / "optimizer.pt").write_bytes(b"state")
    export = plan_export(folder)
    assert (export.is_lora, export.task, set(export.files)) == (True, None, {LORA_FILE, "LICENSE"})
    assert lora_layers(export) == {"unet.a.to_q.lora_A.weight": 4}
    assert left_out(folder, export.files) == ["optimizer.pt"]


def test_a_lora_of_peft_comes_with_its_settings_but_no_path(tmp_path: Path):
    save_file({"base_model.model.a.to_q.lora_A.weight": torch.ones(4, 2)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": "/home/bob/sd"}'
    )
    export = plan_export(tmp_path)
    assert (export.lora_file, lora_layers(export)) == (
        "adapter_model.safetensors",
        {"base_model.model.a.to_q.lora_A.weight": 4},
    )
    settings = json.loads(export.files["adapter_config.json"].text())
    assert settings == {"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": "sd"}
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    torch.save({"lora_A": torch.ones(1)}, tmp_path / "adapter_model.bin")
    with pytest.raises(ModelFolderError, match="is not a safetensors file; load it, and save it with"):
        plan_export(tmp_path)


def test_a_card_that_is_not_utf_8_is_named(tmp_path: Path):
    (tmp_path / "README.md").write_bytes("# modèle".encode("latin-1"))
    with pytest.raises(ModelFolderError, match=r"README\.md is not UTF-8 .* save it as UTF-8"):
        ExportedFile(source=tmp_path / "README.md").text()


def test_headers_of_weights_lose_their_paths(tmp_path: Path):
    notes = {"ss_dataset_dirs": '{"/home/bob/films": 3}', "format": "pt", "base": "C:\\models\\bob\\sd.safetensors"}
    folder = lora_folder(tmp_path / "lora", notes)
    export = plan_export(folder)
    target = written(export, tmp_path / "away") / LORA_FILE
    assert target.stat().st_size == export.files[LORA_FILE].num_bytes
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"ss_dataset_dirs": '{"films": 3}', "format": "pt", "base": "sd.safetensors"}
    loaded = load_file(target)
    assert loaded.keys() == LORA.keys()
    assert all(torch.equal(loaded[name], value) for name, value in LORA.items())


def test_what_is_no_model_is_named(folder: Path, tmp_path: Path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.png").touch()
    with pytest.raises(ModelFolderError, match=r"neither a pipeline .* nor a LoRA .*photo\.png"):
        plan_export(tmp_path / "holiday")
    (tmp_path / "odd").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "odd" / LORA_FILE)
    with pytest.raises(ModelFolderError, match="does not contain a LoRA"):
        plan_export(tmp_path / "odd")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match=r"vae.*is damaged"):
        plan_export(folder)


def test_files_that_name_a_path(folder: Path):
    files = dict(plan_export(folder).files)
    (folder / "README.md").write_text("made in /home/bob/run and /home/bobby")
    files["README.md"] = type(files["model_index.json"])(source=folder / "README.md")
    assert naming("/home/bob/", files) == ["README.md"]
    assert naming("/home/bo", files) == []
