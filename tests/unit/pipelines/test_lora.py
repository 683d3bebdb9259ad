import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from huggingface_hub import errors
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny_loras import (
    Layers,
    adapter_config,
    as_kohya,
    as_lora_down,
    as_peft,
    as_processors,
    merge,
    random_lora,
    with_alpha_as_rank,
)
from tests.tiny_models import tiny_pipeline
from tests.tiny_sd import TEXT_WIDTH, save_tiny_sd, tiny_sd_unet, tiny_text_encoder
from videocrafter.checkpoints.lora.adapter_settings import ADAPTER_METADATA
from videocrafter.checkpoints.stable_diffusion.initialisation import init_from_sd
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import LORA_FILE

EQUAL = {"rtol": 0, "atol": 1e-5}
IDS = torch.tensor([[512, 3, 77, 513, 0, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video model that equals Stable Diffusion frame by frame."""
    root = tmp_path_factory.mktemp("lora")
    return init_from_sd(save_tiny_sd(root / "sd"), root / "model").folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> TextToVideoPipeline:
    return TextToVideoPipeline.from_pretrained(folder)


@pytest.fixture
def pipeline(loaded: TextToVideoPipeline) -> TextToVideoPipeline:
    """A copy that a test may change."""
    fresh = TextToVideoPipeline(**copy.deepcopy(loaded.components))
    fresh.set_progress_bar_config(disable=True)
    return fresh


@torch.no_grad()
def video(network: VideoUNet, num_frames: int = 1) -> Tensor:
    """Output of the network for fixed frames, text and fps: `[B, C, T, H, W]`."""
    generator = torch.Generator().manual_seed(1)
    clips = torch.randn(2, 4, num_frames, 8, 4, generator=generator)
    text = torch.randn(2, 7, TEXT_WIDTH, generator=generator)
    return network(clips, torch.tensor([10, 800]), text, torch.tensor([8.0, 24.0]))


@torch.no_grad()
def images(network: UNet2DConditionModel, num_frames: int = 1) -> Tensor:
    """Output of Stable Diffusion's network for the same input."""
    generator = torch.Generator().manual_seed(1)
    clips = torch.randn(2, 4, num_frames, 8, 4, generator=generator)
    text = torch.randn(2, 7, TEXT_WIDTH, generator=generator)
    timesteps = torch.tensor([10, 800])
    return torch.stack([network(clip, timesteps, text).sample for clip in clips.unbind(2)], dim=2)


@torch.no_grad()
def text(pipeline: TextToVideoPipeline) -> Tensor:
    return pipeline.text_encoder(input_ids=IDS).last_hidden_state


def merged(*loras: tuple[Layers, float]) -> UNet2DConditionModel:
    """Stable Diffusion's network with LoRAs added to its weights by their definition."""
    network = tiny_sd_unet()
    for layers, weight in loras:
        merge(network, layers, weight)
    return network


EVERYTHING = random_lora(tiny_sd_unet())
ATTENTION = random_lora(tiny_sd_unet(), lambda name: ".attn" in name, seed=1)


@pytest.mark.parametrize(
    ("layers", "layout"),
    [
        (EVERYTHING, as_kohya),
        (with_alpha_as_rank(EVERYTHING), as_peft),
        (with_alpha_as_rank(EVERYTHING), as_lora_down),
        (with_alpha_as_rank(ATTENTION), as_processors),
    ],
    ids=["kohya", "peft", "lora_down", "processors"],
)
def test_a_lora_of_stable_diffusion_does_to_every_frame_what_it_does_there(
    pipeline: TextToVideoPipeline, layers: Layers, layout: Callable[[Layers], dict[str, Tensor]]
) -> None:
    done = pipeline.load_lora_weights(layout(layers))
    assert done.note is None
    assert done.num_layers == {"unet": len(layers)}
    for num_frames in (1, 3):
        expected = images(merged((layers, 1.0)), num_frames)
        assert (expected - images(tiny_sd_unet(), num_frames)).abs().max() > 0.1
        torch.testing.assert_close(video(pipeline.unet, num_frames), expected, **EQUAL)


@pytest.mark.parametrize("layout", [as_kohya, as_peft, as_lora_down, as_processors], ids=lambda one: one.__name__)
def test_diffusers_own_loader_comes_to_the_same(
    pipeline: TextToVideoPipeline, layout: Callable[[Layers], dict[str, Tensor]]
) -> None:
    layers = with_alpha_as_rank(ATTENTION)
    if layout is as_kohya:
        # diffusers drops an alpha that only some attention layers have.
        layers = {name: copy.copy(one) for name, one in layers.items() if one.rank == 2}
    network = tiny_sd_unet()
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(layout(layers))
    network.load_lora_adapter(state, prefix="unet", network_alphas=alphas)
    pipeline.load_lora_weights(layout(layers))
    torch.testing.assert_close(video(pipeline.unet), images(network), **EQUAL)


def test_alpha_in_the_header_of_a_file_counts(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    header = {ADAPTER_METADATA: json.dumps(adapter_config(EVERYTHING))}
    save_file(as_peft(EVERYTHING), tmp_path / "style.safetensors", metadata=header)
    pipeline.load_lora_weights(tmp_path / "style.safetensors")
    torch.testing.assert_close(video(pipeline.unet), images(merged((EVERYTHING, 1.0))), **EQUAL)


def test_both_networks_are_changed_and_unloading_leaves_no_trace(pipeline: TextToVideoPipeline) -> None:
    before, text_before = video(pipeline.unet, 3), text(pipeline)
    names = list(pipeline.unet.state_dict())
    text_layers = random_lora(tiny_text_encoder(), seed=4)
    done = pipeline.load_lora_weights(as_kohya(EVERYTHING) | as_kohya(text_layers, "lora_te_"))
    assert done.num_layers == {"unet": len(EVERYTHING), "text_encoder": len(text_layers)}
    reference = tiny_text_encoder()
    merge(reference, text_layers)
    with torch.no_grad():
        expected = reference(input_ids=IDS).last_hidden_state
    assert (expected - text_before).abs().max() > 0.01
    torch.testing.assert_close(text(pipeline), expected, **EQUAL)
    assert not torch.allclose(video(pipeline.unet, 3), before, atol=0.1)

    pipeline.unload_lora_weights()
    assert torch.equal(video(pipeline.unet, 3), before)
    assert torch.equal(text(pipeline), text_before)
    assert list(pipeline.unet.state_dict()) == names
    assert pipeline.get_list_adapters() == {}


def test_several_loras_add_up_each_with_its_weight(pipeline: TextToVideoPipeline) -> None:
    text_layers = random_lora(tiny_text_encoder(), seed=4)
    text_before = text(pipeline)
    pipeline.load_lora_weights(as_kohya(EVERYTHING), "all")
    pipeline.load_lora_weights(as_kohya(ATTENTION) | as_kohya(text_layers, "lora_te_"), "attention")
    # A loaded LoRA is active.
    expected = images(merged((EVERYTHING, 1.0), (ATTENTION, 1.0)))
    torch.testing.assert_close(video(pipeline.unet), expected, **EQUAL)

    pipeline.set_adapters(["attention", "all"], [0.25, -0.5])
    expected = images(merged((EVERYTHING, -0.5), (ATTENTION, 0.25)))
    torch.testing.assert_close(video(pipeline.unet), expected, **EQUAL)
    reference = tiny_text_encoder()
    merge(reference, text_layers, 0.25)
    with torch.no_grad():
        torch.testing.assert_close(text(pipeline), reference(input_ids=IDS).last_hidden_state, **EQUAL)

    pipeline.set_adapters("all", 0.5)
    torch.testing.assert_close(video(pipeline.unet), images(merged((EVERYTHING, 0.5))), **EQUAL)
    torch.testing.assert_close(text(pipeline), text_before, **EQUAL)
    # A third one does not change the weight of the first.
    third = random_lora(tiny_sd_unet(), lambda name: "proj_in" in name, seed=5)
    pipeline.load_lora_weights(as_kohya(third))
    expected = images(merged((EVERYTHING, 0.5), (third, 1.0)))
    torch.testing.assert_close(video(pipeline.unet), expected, **EQUAL)
    assert sorted(pipeline.unet.peft_config) == ["all", "attention", "default_0"]

    pipeline.disable_lora()
    torch.testing.assert_close(video(pipeline.unet), images(tiny_sd_unet()), **EQUAL)
    pipeline.enable_lora()
    pipeline.delete_adapters("all")
    torch.testing.assert_close(video(pipeline.unet), images(merged((third, 1.0))), **EQUAL)
    # An inactive LoRA stays inactive.
    pipeline.delete_adapters(["default_0"])
    torch.testing.assert_close(video(pipeline.unet), images(tiny_sd_unet()), **EQUAL)
    pipeline.set_adapters("attention")
    torch.testing.assert_close(video(pipeline.unet), images(merged((ATTENTION, 1.0))), **EQUAL)


def test_fusing_scales_and_can_be_taken_back(pipeline: TextToVideoPipeline) -> None:
    pipeline.load_lora_weights(as_kohya(EVERYTHING), "all")
    pipeline.load_lora_weights(as_kohya(ATTENTION), "attention")
    pipeline.set_adapters(["all", "attention"], [1.0, 0.5])
    active = video(pipeline.unet)
    for _ in range(2):
        pipeline.fuse_lora(0.5)
        expected = images(merged((EVERYTHING, 0.5), (ATTENTION, 0.25)))
        torch.testing.assert_close(video(pipeline.unet), expected, **EQUAL)
        pipeline.unfuse_lora()
        torch.testing.assert_close(video(pipeline.unet), active, **EQUAL)
    pipeline.set_adapters("attention", 0.5)
    pipeline.fuse_lora()
    torch.testing.assert_close(video(pipeline.unet), images(merged((ATTENTION, 0.5))), **EQUAL)


def test_a_fused_model_can_be_saved_without_its_lora(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    pipeline.load_lora_weights(as_kohya(EVERYTHING))
    with pytest.raises(ValueError, match=r"LoRAs are loaded \(default_0\); call unload_lora_weights\(\)"):
        pipeline.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(tmp_path / "model")
    again = TextToVideoPipeline.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(video(again.unet), images(merged((EVERYTHING, 1.0))), **EQUAL)


def test_what_is_saved_can_be_loaded_and_is_in_diffusers_layout(
    pipeline: TextToVideoPipeline, tmp_path: Path
) -> None:
    text_layers = random_lora(tiny_text_encoder(), seed=4)
    pipeline.load_lora_weights(as_kohya(EVERYTHING) | as_kohya(text_layers, "lora_te_"), "one")
    pipeline.load_lora_weights(as_kohya(ATTENTION), "other")
    with pytest.raises(ValueError, match="adapter_name must be one of the loaded LoRAs: one, other"):
        pipeline.save_lora_weights(tmp_path / "lora")
    path = pipeline.save_lora_weights(tmp_path / "lora", "one")
    assert path == tmp_path / "lora" / LORA_FILE
    assert [one.name for one in path.parent.iterdir()] == [LORA_FILE]
    with pytest.raises(ValueError, match="already exists"):
        pipeline.save_lora_weights(tmp_path / "lora", "one")
    pipeline.save_lora_weights(tmp_path / "lora", "one", overwrite=True)

    keys = list(load_file(path))
    assert len(keys) == 2 * (len(EVERYTHING) + len(text_layers))
    assert "unet.down_stages.0.layers.0.spatial.blocks.0.self_attention.to_q.lora_A.weight" in keys
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()[ADAPTER_METADATA])
    for network in ("unet", "text_encoder"):
        own = {key.removeprefix(f"{network}."): value for key, value in settings.items() if key.startswith(network)}
        assert len(LoraConfig(**own).target_modules or ()) == len({"unet": EVERYTHING}.get(network, text_layers))

    pipeline.set_adapters("one")
    expected, expected_text = video(pipeline.unet), text(pipeline)
    pipeline.unload_lora_weights()
    pipeline.load_lora_weights(tmp_path / "lora")
    assert torch.equal(video(pipeline.unet), expected)
    assert torch.equal(text(pipeline), expected_text)


def test_a_lora_trained_on_the_video_network_is_kept_and_loaded(
    pipeline: TextToVideoPipeline, tmp_path: Path
) -> None:
    """Includes temporal layers, which Stable Diffusion LoRAs do not have."""
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=r".*temporal\..*to_[qv]"), "motion")
    for name, parameter in pipeline.unet.named_parameters():
        if "lora_B" in name or name.endswith("temporal.proj_out.weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    expected = video(pipeline.unet, 3)
    pipeline.save_lora_weights(tmp_path)
    pipeline.unload_lora_weights()
    assert (video(pipeline.unet, 3) - expected).abs().max() > 0.001
    done = pipeline.load_lora_weights(tmp_path)
    assert (done.note, done.adapter_name) == (None, "default_0")
    torch.testing.assert_close(video(pipeline.unet, 3), expected, **EQUAL)


def test_layers_are_saved_and_loaded_with_diffusers_arguments(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    text_layers = random_lora(tiny_text_encoder(), seed=4)
    pipeline.load_lora_weights(as_kohya(EVERYTHING) | as_kohya(text_layers, "lora_te_"))
    expected, expected_text = video(pipeline.unet), text(pipeline)
    layers = {
        f"{name}_lora_layers": get_peft_model_state_dict(getattr(pipeline, name), adapter_name="default_0")
        for name in ("unet", "text_encoder")
    }
    metadata = {
        f"{name}_lora_adapter_metadata": getattr(pipeline, name).peft_config["default_0"].to_dict()
        for name in ("unet", "text_encoder")
    }
    # The sets of peft's configurations are saved as lists.
    TextToVideoPipeline.save_lora_weights(tmp_path / "sub", **layers, **metadata, weight_name="a.safetensors")
    pipeline.save_lora_weights(tmp_path / "sub", **layers, weight_name="b.safetensors")
    pipeline.unload_lora_weights()
    options = {"subfolder": "sub", "local_files_only": True, "revision": None, "low_cpu_mem_usage": True}
    pipeline.load_lora_weights(tmp_path, weight_name="a.safetensors", adapter_name="a", **options)
    assert torch.equal(video(pipeline.unet), expected)
    assert torch.equal(text(pipeline), expected_text)
    with pytest.raises(ValueError, match=r"c.safetensors does not exist"):
        pipeline.load_lora_weights(tmp_path, weight_name="c.safetensors", **options)


def test_a_lora_comes_from_a_repository_on_the_hub(
    pipeline: TextToVideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, name: str, **options: object) -> str:
        asked.append((repository, name, options))
        if name == LORA_FILE:
            raise errors.EntryNotFoundError("404")
        save_file(as_kohya(EVERYTHING), tmp_path / "style.safetensors")
        return str(tmp_path / "style.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ValueError, match=r"ann/style on the hub has no file pytorch_lora_weights.safetensors; pass"):
        pipeline.load_lora_weights("ann/style")
    pipeline.load_lora_weights("ann/style", weight_name="style.safetensors", revision="v1")
    assert asked[1] == ("ann/style", "style.safetensors", {"subfolder": None, "revision": "v1"})
    torch.testing.assert_close(video(pipeline.unet), images(merged((EVERYTHING, 1.0))), **EQUAL)


def test_a_repository_that_cannot_be_reached_is_one_line(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ann/style/pytorch_lora_weights.safetensors is not in the cache"):
        pipeline.load_lora_weights("ann/style", local_files_only=True, cache_dir=tmp_path)


def test_weights_can_differ_between_networks_and_blocks(pipeline: TextToVideoPipeline) -> None:
    text_layers = random_lora(tiny_text_encoder(), seed=4)
    pipeline.load_lora_weights(as_kohya(EVERYTHING) | as_kohya(text_layers, "lora_te_"), "a")
    pipeline.set_adapters("a", {"unet": 0.5, "text_encoder": 0.25})
    torch.testing.assert_close(video(pipeline.unet), images(merged((EVERYTHING, 0.5))), **EQUAL)
    reference = tiny_text_encoder()
    merge(reference, text_layers, 0.25)
    with torch.no_grad():
        torch.testing.assert_close(text(pipeline), reference(input_ids=IDS).last_hidden_state, **EQUAL)
    pipeline.set_adapters(["a"], [{"unet": {"down": 0.5, "mid": 2.0, "up": 0.0}}])
    scales = {
        name: module.scaling["a"] / module.lora_alpha["a"] * module.r["a"]
        for name, module in pipeline.unet.named_modules()
        if isinstance(module, BaseTunerLayer)
    }
    expected = {"down_stages": 0.5, "middle_in": 2.0, "middle_out": 2.0, "up_stages": 0.0}
    assert scales == pytest.approx({name: expected.get(name.partition(".")[0], 1.0) for name in scales})


def test_networks_and_loras_are_fused_one_by_one(pipeline: TextToVideoPipeline) -> None:
    text_layers = random_lora(tiny_text_encoder(), seed=4)
    text_before = text(pipeline)
    pipeline.load_lora_weights(as_kohya(EVERYTHING) | as_kohya(text_layers, "lora_te_"), "a")
    pipeline.load_lora_weights(as_kohya(ATTENTION), "b")
    assert pipeline.get_active_adapters() == ["a", "b"]
    adapted = text(pipeline)
    pipeline.fuse_lora(components=["unet"], lora_scale=0.5, adapter_names=["b"])
    assert (pipeline.num_fused_loras, pipeline.fused_loras) == (1, {"b"})
    torch.testing.assert_close(video(pipeline.unet), images(merged((ATTENTION, 0.5))), **EQUAL)
    assert torch.equal(text(pipeline), adapted)
    pipeline.fuse_lora(["text_encoder"])
    pipeline.unfuse_lora(components=["unet"])
    torch.testing.assert_close(video(pipeline.unet), images(merged((EVERYTHING, 1.0), (ATTENTION, 1.0))), **EQUAL)
    pipeline.unload_lora_weights()
    torch.testing.assert_close(text(pipeline), adapted, **EQUAL)
    assert not torch.allclose(adapted, text_before)


def test_fusing_that_fails_changes_nothing(pipeline: TextToVideoPipeline) -> None:
    pipeline.load_lora_weights(as_kohya(EVERYTHING), "a")
    last = [module for module in pipeline.unet.modules() if isinstance(module, BaseTunerLayer)][-1]
    good = last.lora_A["a"].weight.detach().clone()
    before = video(pipeline.unet)
    with torch.no_grad():
        last.lora_A["a"].weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaNs detected"):
        pipeline.fuse_lora(lora_scale=0.5, safe_fusing=True)
    with torch.no_grad():
        last.lora_A["a"].weight.copy_(good)
    torch.testing.assert_close(video(pipeline.unet), before, **EQUAL)


@pytest.mark.parametrize("image", [False, True], ids=["t2v", "i2v"])
def test_one_call_can_scale_the_loras(image: bool) -> None:
    pipeline = tiny_pipeline(image)
    given = [torch.zeros(3, 16, 16)] if image else []

    def frames(**options: Any) -> Tensor:
        return pipeline(*given, "a cat", num_inference_steps=1, seeds=1, output_type="pt", **options).frames

    plain = frames()
    with pytest.raises(ValueError, match="cannot scale: no LoRA is loaded"):
        frames(cross_attention_kwargs={"scale": 0.5})
    pipeline.unet.add_adapter(LoraConfig(r=1, target_modules=r".*to_[qv]", init_lora_weights=False), "a")
    pipeline.text_encoder.add_adapter(LoraConfig(r=1, target_modules=r".*q_proj", init_lora_weights=False), "a")
    assert torch.equal(frames(cross_attention_kwargs={"scale": 0.0}), plain)
    whole = frames()
    half = frames(cross_attention_kwargs={"scale": 0.5})
    assert torch.equal(frames(), whole)
    pipeline.set_adapters("a", np.float32(0.5))
    torch.testing.assert_close(frames(), half)
    assert not torch.allclose(half, whole)
    with pytest.raises(ValueError, match="takes only 'scale', but has 'gligen'"):
        frames(cross_attention_kwargs={"gligen": None})


def test_half_precision_stays_half_precision(pipeline: TextToVideoPipeline) -> None:
    pipeline.to(dtype=torch.bfloat16)
    pipeline.load_lora_weights(as_kohya(EVERYTHING))
    assert {parameter.dtype for parameter in pipeline.unet.parameters()} == {torch.bfloat16}


def test_a_lora_changes_the_video_that_a_seed_gives(pipeline: TextToVideoPipeline) -> None:
    def frames() -> Tensor:
        settings = {"num_frames": 2, "height": 8, "width": 8, "num_inference_steps": 2, "seeds": 1}
        return pipeline("a cat", output_type="pt", **settings).frames

    before = frames()
    pipeline.load_lora_weights(as_kohya(EVERYTHING))
    changed = frames()
    pipeline.unload_lora_weights()
    assert (changed - before).abs().max() > 0.01
    assert torch.equal(frames(), before)


def test_what_cannot_be_done_is_one_line(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    def refused(what: str, call: Callable[[], object]) -> None:
        with pytest.raises(ValueError, match=what) as caught:
            call()
        assert "\n" not in str(caught.value)

    state = as_kohya(ATTENTION)
    refused("no LoRA is loaded", pipeline.fuse_lora)
    refused("no LoRA is named 'a'; loaded are none", lambda: pipeline.set_adapters("a"))
    refused("one of the loaded LoRAs: none", lambda: pipeline.save_lora_weights(tmp_path))
    nowhere = tmp_path / "nothing.safetensors"
    refused("nothing.safetensors does not exist", lambda: pipeline.load_lora_weights(nowhere))
    refused("contain dots, but is 'v1.0'", lambda: pipeline.load_lora_weights(state, "v1.0"))
    refused("Stable Diffusion 1.x", lambda: pipeline.load_lora_weights(_for_sd_1(), "a"))
    assert pipeline.get_list_adapters() == {}

    pipeline.load_lora_weights(state, "a")
    refused("a LoRA named 'a' is already loaded", lambda: pipeline.load_lora_weights(state, "a"))
    refused("no LoRA is named 'b'; loaded are a", lambda: pipeline.set_adapters(["a", "b"]))
    refused("no LoRA is named 'b'", lambda: pipeline.delete_adapters("b"))
    refused("no LoRA is named 'b'", lambda: pipeline.set_lora_device("b", "cpu"))
    refused("not for 'vae'", lambda: pipeline.set_adapters("a", {"vae": 1.0}))
    refused("must be a number", lambda: pipeline.set_adapters("a", {"unet": {"down": {"block_1": 1.0}}}))
    refused("components must be a list of 'unet' and 'text_encoder'", lambda: pipeline.fuse_lora("unet"))
    refused("hotswap is not supported", lambda: pipeline.load_lora_weights(state, "a", hotswap=True))
    refused("got 2 weights for 1 LoRAs", lambda: pipeline.set_adapters(["a"], [1.0, 2.0]))
    pipeline.fuse_lora()
    for change in (
        lambda: pipeline.load_lora_weights(state, "b"),
        lambda: pipeline.set_adapters("a", 0.5),
        lambda: pipeline.delete_adapters("a"),
        pipeline.fuse_lora,
    ):
        refused("LoRAs are fused into the weights; call unfuse_lora", change)
    pipeline.unload_lora_weights()
    pipeline.text_encoder.to("meta")
    refused("the layers of the text_encoder are offloaded one by one", lambda: pipeline.load_lora_weights(state))


def test_what_is_left_out_is_told(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    state = as_kohya(ATTENTION)
    state |= {key.replace("down_blocks_0", "down_blocks_7"): value for key, value in state.items()}
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "lora.safetensors")
    done = pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    assert done.num_layers == {"unet": len(ATTENTION)}
    assert done.note is not None
    assert done.note.startswith(
        "16 of the LoRA's 64 layers do not match this model and are skipped (lora_unet_down_blocks_7"
    )
    shutil.rmtree(tmp_path)


def _for_sd_1() -> dict[str, Tensor]:
    return as_kohya(random_lora(tiny_sd_unet(cross_attention_dim=768), lambda name: "attn2" in name))


# LoRAs saved by peft

TEMPORAL = r".*temporal\..*(to_[qkv]|to_out|proj_out)"


def save_with_peft(network: Any, folder: Path, **config: Any) -> Any:
    """Save a random LoRA of a network with peft; return the network with it."""
    generator = torch.Generator().manual_seed(0)
    model = get_peft_model(network, LoraConfig(r=4, lora_alpha=3, **config))
    for name, weight in model.named_parameters():
        if "lora_" in name or weight.requires_grad:
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    return model.base_model.model.eval()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_k": 7, r"down_stages\.0.*to_v": 1}},
        {"rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_k": 7}, "use_rslora": True},
        {"lora_bias": True},
        {"bias": "lora_only"},
    ],
    ids=lambda config: " ".join(config) or "plain",
)
def test_a_lora_of_peft_does_what_it_does_there(
    pipeline: TextToVideoPipeline, loaded: TextToVideoPipeline, tmp_path: Path, config: dict[str, Any]
) -> None:
    wanted = video(save_with_peft(copy.deepcopy(loaded.unet), tmp_path, target_modules=TEMPORAL, **config), 3)
    before = video(pipeline.unet, 3)
    done = pipeline.load_lora_weights(tmp_path)
    assert (list(done.num_layers), done.note) == (["unet"], None)
    torch.testing.assert_close(video(pipeline.unet, 3), wanted, rtol=0, atol=1e-4)
    pipeline.save_lora_weights(tmp_path / "again")
    pipeline.unload_lora_weights()
    assert torch.equal(video(pipeline.unet, 3), before)
    pipeline.load_lora_weights(tmp_path / "again")
    torch.testing.assert_close(video(pipeline.unet, 3), wanted, rtol=0, atol=1e-4)


def test_biases_of_layers_without_one_cannot_be_fused(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    save_with_peft(copy.deepcopy(pipeline.unet), tmp_path, target_modules=TEMPORAL, lora_bias=True)
    pipeline.load_lora_weights(tmp_path)
    with pytest.raises(ValueError, match="has a bias for a layer without one"):
        pipeline.fuse_lora()


def test_a_lora_of_peft_for_the_text_encoder(
    pipeline: TextToVideoPipeline, loaded: TextToVideoPipeline, tmp_path: Path
) -> None:
    encoder = save_with_peft(copy.deepcopy(loaded.text_encoder), tmp_path, target_modules=["q_proj", "fc1"])
    with torch.no_grad():
        wanted = encoder(input_ids=IDS).last_hidden_state
    assert list(pipeline.load_lora_weights(tmp_path / "adapter_model.safetensors").num_layers) == ["text_encoder"]
    torch.testing.assert_close(text(pipeline), wanted, **EQUAL)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"use_dora": True}, "is a DoRA, which is not supported"),
        ({"modules_to_save": ["conv_in"]}, "also replaces whole layers .modules_to_save.: conv_in"),
        ({"init_lora_weights": "olora"}, "fits only a model changed by init_lora_weights='olora'"),
        ({"bias": "all"}, "also replaces .* parameters of the model, .*bias='all'"),
    ],
)
def test_adapters_of_peft_that_are_more_than_a_lora_are_refused(
    pipeline: TextToVideoPipeline, tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    save_with_peft(copy.deepcopy(pipeline.unet), tmp_path, target_modules=TEMPORAL, **config)
    with pytest.raises(ValueError, match=reason):
        pipeline.load_lora_weights(tmp_path)


def test_where_adapters_of_peft_are(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    model = get_peft_model(
        copy.deepcopy(pipeline.unet), LoraConfig(r=2, target_modules=TEMPORAL), adapter_name="style"
    )
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds no LoRA itself; pass a folder in it: .*style"):
        pipeline.load_lora_weights(tmp_path)
    (tmp_path / "style" / "adapter_config.json").unlink()
    assert "alpha is assumed to equal the rank" in str(pipeline.load_lora_weights(tmp_path / "style").note)


def test_adapters_that_diffusers_saves_from_the_network_alone_keep_their_alpha(
    pipeline: TextToVideoPipeline, loaded: TextToVideoPipeline, tmp_path: Path
) -> None:
    network = copy.deepcopy(loaded.unet)
    network.add_adapter(LoraConfig(r=2, lora_alpha=7, target_modules=TEMPORAL, init_lora_weights=False))
    network.save_lora_adapter(tmp_path)
    pipeline.load_lora_weights(tmp_path)
    torch.testing.assert_close(video(pipeline.unet), video(network), **EQUAL)


def test_the_lora_of_a_run_is_its_result_and_other_folders_are_named(
    pipeline: TextToVideoPipeline, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    pipeline.load_lora_weights(as_peft(with_alpha_as_rank(ATTENTION)))
    pipeline.save_lora_weights(tmp_path / "checkpoints" / "low-step-00000001")
    with pytest.raises(ValueError, match=r"is not finished: .* use its newest checkpoint, .*low-step-00000001"):
        pipeline.load_lora_weights(tmp_path)
    pipeline.save_lora_weights(tmp_path / "final")
    assert pipeline.load_lora_weights(tmp_path).num_layers == {"unet": len(ATTENTION)}
    with pytest.raises(ValueError, match=r"holds a whole model .* not a LoRA"):
        pipeline.load_lora_weights(folder)
