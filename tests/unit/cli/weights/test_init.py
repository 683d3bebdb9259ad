from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from tests.tiny_sd import TEXT_WIDTH, save_tiny_sd
from tests.unit.cli.conftest import Run
from videocrafter.pipelines.text_to_video import TextToVideoPipeline


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sd(tmp_path_factory.mktemp("sd") / "sd")


def test_a_model_is_made_that_generate_can_use(cli: Run, sd_folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    made = cli("init", "--from", sd_folder, "--preset", "t2v-256", model)
    assert made.exit_code == 0, made.output
    assert f"Wrote {model}" in made.stdout
    assert f"--init {model}" in made.stdout

    clip, text = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 5, TEXT_WIDTH)
    network, timestep = UNet2DConditionModel.from_pretrained(sd_folder / "unet"), torch.tensor([700])
    with torch.no_grad():
        frames = torch.stack([network(clip[:, :, index], timestep, text).sample for index in range(3)], dim=2)
        video = TextToVideoPipeline.from_pretrained(model).unet(clip, timestep, text, torch.tensor([8.0]))
    torch.testing.assert_close(video, frames, rtol=0, atol=1e-5)

    size = ("--frames", 2, "--width", 8, "--height", 8, "--steps", 1)
    generated = cli("generate", "a cat", "--model", model, *size, "-o", tmp_path / "cat.gif")
    assert generated.exit_code == 0, generated.output
    assert (tmp_path / "cat.gif").is_file()

    again = cli("init", "--from", sd_folder, model)
    assert again.exit_code == 2
    assert "already exists" in again.stderr
    assert cli("init", "--from", sd_folder, model, "--overwrite").exit_code == 0


def test_a_v_prediction_model_gets_a_note(cli: Run, tmp_path: Path) -> None:
    sd_folder = save_tiny_sd(tmp_path / "sd", prediction_type="v_prediction")
    made = cli("init", "--from", sd_folder, tmp_path / "model")
    assert made.exit_code == 0
    assert "Note: this is a v-prediction model" in made.stderr
    assert "2.1-base" in made.stderr


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cross_attention_dim": 768}, "it seems to be Stable Diffusion 1.x"),
        ({"cross_attention_dim": 2048}, "it seems to be Stable Diffusion XL"),
        ({"use_linear_projection": False}, "use_linear_projection=False"),
    ],
)
def test_another_model_is_one_line(cli: Run, tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    refused = cli("init", "--from", save_tiny_sd(tmp_path / "sd", **changes), tmp_path / "model")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert complaint in refused.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("what", ["a folder", "a file", "nothing", "an unknown preset"])
def test_what_is_no_stable_diffusion_is_one_line(cli: Run, sd_folder: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_bytes(b"x")
    unknown_preset = what == "an unknown preset"
    source, preset = (sd_folder, "t2v-1") if unknown_preset else (tmp_path / what, "t2v-256")
    refused = cli("init", "--from", source, "--preset", preset, tmp_path / "model")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "a folder"]
