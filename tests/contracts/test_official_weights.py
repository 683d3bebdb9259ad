"""The presets and the page on official weights agree with the networks."""

import re
from pathlib import Path

import pytest
import torch
from runs.estimate_memory import VARIANTS, estimate, model_of, peak_bytes
from torch import nn

from videocrafter.checkpoints.official.meta_networks import build_networks
from videocrafter.checkpoints.official.variants import matching_preset
from videocrafter.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "official_weights.md").read_text(encoding="utf-8")
OFFICIAL = {name: preset for name, preset in PRESETS.items() if preset.asset is None}


def row(heading: str, name: str) -> list[str]:
    """Cells of a model's row in the table below a heading of the page."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    line = next(line for line in section.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_official_model_can_be_counted():
    assert set(OFFICIAL) == set(VARIANTS)


@pytest.mark.parametrize("name", ["t2v-512", "t2v-1024", "i2v-512", "vc2-t2v-512", "t2v-512-early"])
def test_parameters_are_those_of_the_networks(name: str):
    model = model_of(OFFICIAL[name])
    counted = sum(part.numel() for network in build_networks(model).values() for part in network.parameters())
    assert OFFICIAL[name].num_parameters == counted
    assert matching_preset(model) == name
    assert model.unet["fps_condition"] == OFFICIAL[name].has_fps_condition


@pytest.mark.slow
def test_the_memory_of_a_preset_is_what_the_script_counts():
    preset = OFFICIAL["t2v-256"]
    found = estimate(preset, 16, 256, 256, torch.bfloat16)
    assert found["parameters"] == preset.num_parameters
    assert abs(found["all"] / preset.memory_bytes - 1) < 0.05


def test_storages_are_counted_from_birth_to_death():
    linear = nn.Linear(1000, 1000, bias=False)

    def call() -> torch.Tensor:
        once = torch.zeros(10, 1000)  # 40 kB
        twice = linear(once)
        del once
        return linear(twice).view(-1)  # a view has no storage of its own

    # Two of the three are there at once; the weights, 4 MB, are not counted.
    assert peak_bytes(linear, call) == 2 * 40_000


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_page_shows_what_the_presets_hold(name: str):
    preset = OFFICIAL[name]
    offered = row("Which there are", name)
    assert (preset.hub_url or "") in offered[2]
    assert offered[3] == (f"{preset.download_bytes / 1e9:.1f} GB" if preset.download_bytes else "–")
    settings = row("Settings", name)
    defaults = preset.defaults
    assert settings[1] == f"{defaults['width']} × {defaults['height']}, {defaults['num_frames']} frames"
    assert f"{defaults['fps']:g}" in settings[2]
    assert settings[3] == (f"{preset.signal_scale:g}" if preset.signal_scale else "none")
    memory = row("Memory", name)
    assert memory[1] == f"{preset.num_parameters / 1e6:,.1f} M"
    assert memory[5] == f"{preset.memory_bytes / 2**30:.2f} GiB"


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_page_has_commands_for_every_official_model(name: str):
    assert re.search(rf"^videocrafter models {name}$", PAGE, flags=re.MULTILINE)
