import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_sd import save_tiny_sd
from videocrafter.checkpoints.stable_diffusion.folder import read_sd_folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sd(tmp_path_factory.mktemp("whole") / "sd")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "sd")


def change(path: str, before: str, after: str) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        text = (folder / path).read_text()
        assert before in text
        (folder / path).write_text(text.replace(before, after))

    return apply


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no unet": (lambda folder: shutil.rmtree(folder / "unet"), "unet/config.json is missing"),
    "no vae": (lambda folder: shutil.rmtree(folder / "vae"), "vae/config.json is missing"),
    "no scheduler": (
        lambda folder: shutil.rmtree(folder / "scheduler"),
        "scheduler/scheduler_config.json is missing",
    ),
    "a broken config": (
        lambda folder: (folder / "unet" / "config.json").write_text("{"),
        "config.json is damaged: not readable as JSON",
    ),
    "a list as config": (lambda folder: (folder / "unet" / "config.json").write_text("[]"), "expected a JSON object"),
    "pickled weights": (
        lambda folder: (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "x.bin"),
        r"vae has pickled weights only \(x.bin\), which are refused",
    ),
    "SD 1.5": (
        change("unet/config.json", '"cross_attention_dim": 24', '"cross_attention_dim": 768'),
        "Diffusion 1.x",
    ),
    "SDXL": (change("unet/config.json", '"cross_attention_dim": 24', '"cross_attention_dim": 2048'), "Diffusion XL"),
    "a video model": (change("unet/config.json", "UNet2DConditionModel", "VideoUNet"), "already holds a video model"),
    "predicts x0": (change("scheduler/scheduler_config.json", '"epsilon"', '"sample"'), "prediction_type 'sample'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_is_said_before_anything_is_loaded(copy: Path, damage: str) -> None:
    break_it, complaint = DAMAGES[damage]
    break_it(copy)
    with pytest.raises(ValueError, match=complaint) as caught:
        read_sd_folder(copy)
    message = str(caught.value)
    assert message.startswith(f"{copy} cannot be used: ")
    assert message.endswith("pass a folder with Stable Diffusion 2.1-base in diffusers' format")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("part", "before", "after", "load", "complaint"),
    [
        ("vae/config.json", '"latent_channels": 4', '"latent_channels": 5', "load_vae", "cannot be used"),
        ("text_encoder/config.json", '"hidden_size": 24', '"hidden_size": 32', "load_text_encoder", "cannot be used"),
        ("tokenizer/vocab.json", "{", "[", "load_tokenizer", "cannot be used"),
        ("tokenizer/merges.txt", "#version: 0.2", "#version: 0.2\nab cd ef", "load_tokenizer", "cannot be used"),
        ("text_encoder/config.json", '_layers": 2', '_layers": 3', "load_text_encoder", "its text_encoder lacks"),
        (
            "unet/config.json",
            '"cross_attention_dim": 24',
            '"cross_attention_dim": 32',
            "load_text_encoder",
            "has width 24",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_named(
    copy: Path, part: str, before: str, after: str, load: str, complaint: str
) -> None:
    change(part, before, after)(copy)
    folder = read_sd_folder(copy)
    with pytest.raises(ValueError, match=complaint) as caught:
        getattr(folder, load)()
    assert "\n" not in str(caught.value)


def test_truncated_weights_are_named(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"unet/diffusion_pytorch_model.safetensors is a truncated or damaged"):
        read_sd_folder(copy).unet_weights()


def test_a_single_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sd.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="is a single file; pass a folder"):
        read_sd_folder(tmp_path / "sd.safetensors")
    with pytest.raises(ValueError, match="the folder does not exist"):
        read_sd_folder(tmp_path / "nowhere")
