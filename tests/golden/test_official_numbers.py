"""Compare every stored output of every variant; check that the comparison can fail."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.golden.__main__ import main
from tests.golden.comparison import LIMIT, compare, relative_error
from tests.golden.official_numbers import DATA, VARIANTS, OfficialNumbers, variants_in
from tests.golden.rebuilt_model import load_parts
from videocrafter.checkpoints.official.official_model import official_model_from_config


def test_the_data_hold_every_variant():
    assert set(variants_in(DATA)) == set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_output(variant: str):
    errors = compare(OfficialNumbers(variant))
    assert len(errors) == (23 if variant == "i2v_512_v1" else 19)
    assert {name: error for name, error in errors.items() if not error <= LIMIT} == {}


@pytest.mark.parametrize("variant", ["t2v_512_v1", "i2v_512_v1"])
@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_denoiser_in_training(variant: str, case: int):
    """With gradients enabled, attention on a CPU uses another implementation."""
    numbers = OfficialNumbers(variant)
    expected = numbers.expected
    unet = load_parts(official_model_from_config(numbers.config, numbers.shapes), numbers.state_dict())["unet"]
    unet.requires_grad_(True)
    got = unet(
        numbers.draw(f"unet_x{case}", expected[f"unet.{case}.output"].shape),
        expected[f"unet.{case}.timestep"],
        expected["text.embedding"],
        expected[f"unet.{case}.fps"],
        expected.get("image.tokens"),
    )
    assert got.requires_grad
    assert relative_error(got.detach(), expected[f"unet.{case}.output"]) < LIMIT


def test_any_folder_and_a_number_that_is_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    spec = json.loads((DATA / "t2v_512_v1.json").read_text(encoding="utf-8"))
    spec["cases"] = spec["cases"][:1]
    (tmp_path / "mine.json").write_text(json.dumps(spec))
    stored = load_file(DATA / "t2v_512_v1.safetensors")
    stored = {name: value for name, value in stored.items() if not name.startswith(("ddim.1.", "ddim.2."))}
    for name in ("vae.mean", "ddim.0.video", "ddim.0.timesteps"):
        stored[name].view(-1)[3] += 1
    save_file(stored, tmp_path / "mine.safetensors")
    tokens = json.loads((DATA / "tokens.json").read_text(encoding="utf-8"))
    tokens[1]["tokens"][1] += 1
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "output" in printed.splitlines()[0]
    assert "mine" in printed.splitlines()[0]
    assert "tokens.json: 21 of 22 prompts have the same ids" in printed
    assert printed.splitlines()[-1] == (
        "13 outputs of 1 variants, limit 0.0001: 4 failed: mine vae.mean, mine ddim.0.timesteps, mine ddim.0.video,"
        " tokens of 'a black swan swims on the pond'"
    )


def test_an_output_that_nothing_is_compared_with(monkeypatch: pytest.MonkeyPatch):
    numbers = OfficialNumbers("t2v_512_v1")
    numbers.expected["unet.0.attention"] = torch.zeros(1)
    monkeypatch.setattr("tests.golden.comparison.outputs", lambda numbers, model: iter(()))
    with pytest.raises(ValueError, match=r"stores outputs .* unet\.0\.attention, "):
        compare(numbers)


def test_a_folder_without_variants(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path)]) == 2
    assert "holds no variant" in capsys.readouterr().err


def test_errors_are_relative_to_the_spread_and_never_hidden():
    wanted = torch.tensor([0.0, 10.0, 20.0])
    assert relative_error(wanted + torch.tensor([0.0, 0.0, 1.0]), wanted) == pytest.approx(0.1)
    assert relative_error(wanted[:2], wanted) == math.inf
    assert relative_error(wanted * math.nan, wanted) == math.inf


def test_only_rounding_to_half_precision_is_forgiven():
    exact = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 3
    assert relative_error(exact, exact.half()) == 0
    last_bit = 2.0 ** (torch.frexp(exact.half().float())[1] - 11)
    assert relative_error(exact.half().float() + 0.7 * last_bit, exact.half()) > LIMIT
