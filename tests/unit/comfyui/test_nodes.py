"""The node pack against a stand-in for ComfyUI's public interface."""

import asyncio
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.comfy_stand_in import Interrupted, StandIn
from tests.tiny_models import save_tiny_pipeline
from videocrafter.media.video_file import read_metadata

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACK = Path(__file__).parents[3] / "comfyui"
WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))
CORE = {"LoadImage": (["IMAGE", "MASK"], 2), "SaveVideo": ([], 3)}
"""Outputs and number of widgets of ComfyUI's own nodes in the workflows."""
QUICK = {"seed": 3, "steps": 2, "guidance": 0.0, "frames": 3, "width": 0, "height": 0, "fps": 0.0, "negative": ""}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return {name: save_tiny_pipeline(folder / name, image=name == "i2v") for name in ("t2v", "i2v")}


@pytest.fixture
def comfy(tmp_path, monkeypatch, toys):
    stand_in = StandIn(tmp_path / "comfyui")
    stand_in.install(monkeypatch)
    for name, folder in toys.items():
        (stand_in.root / "models/videocrafter" / name).symlink_to(folder)
    return stand_in


@pytest.fixture
def nodes(comfy, monkeypatch):
    """The pack's nodes by id, imported as ComfyUI imports them: from a folder, under another name."""
    spec = importlib.util.spec_from_file_location(
        "pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    pack = importlib.util.module_from_spec(spec)
    for name in ("pack", "pack.nodes", "pack.making"):
        monkeypatch.setitem(sys.modules, name, pack)
    del sys.modules["pack.nodes"], sys.modules["pack.making"]
    spec.loader.exec_module(pack)
    assert not hasattr(pack, "NODE_CLASS_MAPPINGS"), "ComfyUI would ignore the entry point"
    found = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    return {node.define_schema().node_id: node for node in found}


def test_the_ids_and_inputs_of_saved_workflows_never_change(nodes):
    sampling = "seed steps guidance frames width height fps negative"
    known = {
        "VideoCrafterLoadModel": "model precision",
        "VideoCrafterAddLora": "model lora weight",
        "VideoCrafterTextToVideo": f"model prompt {sampling}",
        "VideoCrafterImageToVideo": f"model image prompt {sampling} last_image",
        "VideoCrafterLongVideo": f"model prompt {sampling} loop window",
        "VideoCrafterSaveVideo": "images settings prefix format",
    }
    for name, inputs in known.items():
        ids = [port.id for port in nodes[name].define_schema().inputs]
        assert ids[: len(inputs.split())] == inputs.split()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_example_workflows_fit_the_schema(nodes, path):
    flow = json.loads(path.read_text())
    by_id = {node["id"]: node for node in flow["nodes"]}
    for node in flow["nodes"]:
        if node["type"] in CORE:
            outputs, num_widgets = CORE[node["type"]]
            assert [port["type"] for port in node["outputs"]] == outputs
        else:
            schema = nodes[node["type"]].define_schema()
            assert [(port["name"], port["type"]) for port in node["outputs"]] == [
                (port.id, port.io_type) for port in schema.outputs
            ]
            linked = [port for port in schema.inputs if not port.num_widgets]
            assert [(port["name"], port["type"]) for port in node["inputs"]] == [(p.id, p.io_type) for p in linked]
            required = {port.id for port in linked if not port.optional}
            assert {port["name"] for port in node["inputs"] if port["link"] is not None} >= required
            num_widgets = sum(port.num_widgets for port in schema.inputs)
        assert len(node["widgets_values"]) == num_widgets, node["type"]
    for number, source, out, target, into, kind in flow["links"]:
        assert number in by_id[source]["outputs"][out]["links"]
        assert by_id[source]["outputs"][out]["type"] == kind
        assert by_id[target]["inputs"][into]["link"] == number
        assert by_id[target]["inputs"][into]["type"] == kind


def load(nodes, name):
    return nodes["VideoCrafterLoadModel"].execute(name, "float32").args[0]


def test_a_prompt_becomes_images_and_a_video_and_is_saved_with_its_settings(nodes, comfy):
    made = nodes["VideoCrafterTextToVideo"].execute(load(nodes, "t2v"), "a cat", **QUICK)
    images, video, settings = made.args
    assert images.shape == (3, 16, 16, 3)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert video.components.images is images
    assert float(video.components.frame_rate) == settings["playback_fps"]
    assert [step[:2] for step in comfy.progress] == [(1, 2), (2, 2)]
    assert comfy.progress[0][2].size == (3 * 16, 16)
    save = nodes["VideoCrafterSaveVideo"]
    shown = [save.execute(images, settings, "videocrafter/cat", "gif").ui.values[0] for _ in range(2)]
    assert [one.filename for one in shown] == ["cat_00001_.gif", "cat_00002_.gif"]
    saved = comfy.root / "output" / shown[0].subfolder / shown[0].filename
    assert read_metadata(saved)["prompt"] == "a cat"
    assert str(comfy.root) not in json.dumps(read_metadata(saved))
    assert list((comfy.root / "temp").iterdir()) == []


def test_images_guide_the_video_and_seeds_repeat_it(nodes):
    model, node = load(nodes, "i2v"), nodes["VideoCrafterImageToVideo"]
    red, blue = torch.zeros(1, 20, 30, 3), torch.zeros(2, 20, 30, 3)
    red[..., 0], blue[..., 2] = 1, 1
    make = lambda **more: node.execute(model, prompt="a cat", **{**QUICK, "image": red, **more}).args[0]  # noqa: E731
    first = make()
    assert torch.equal(first, make())
    assert not torch.equal(first, make(seed=4))
    assert not torch.equal(first, make(image=blue))
    assert not torch.equal(first, make(last_image=blue))


def test_long_videos_and_loops(nodes):
    node, model = nodes["VideoCrafterLongVideo"], load(nodes, "t2v")
    settings = {**QUICK, "frames": 7, "prompt": "a cat"}
    for loop in (False, True):
        images, _, recording = node.execute(model, loop=loop, window=4, **settings).args
        assert len(images) == 7
        assert recording.get("loop", False) == loop


def test_cancelling_stops_at_the_next_step(nodes, comfy):
    comfy.interrupt_after = 1
    with pytest.raises(Interrupted):
        nodes["VideoCrafterTextToVideo"].execute(load(nodes, "t2v"), "a cat", **{**QUICK, "steps": 50})
    assert len(comfy.progress) == 1
    assert list((comfy.root / "temp").iterdir()) == []


def test_the_model_is_loaded_once_and_errors_say_what_to_do(nodes, comfy, monkeypatch):
    making, loads = sys.modules["pack.making"], []
    original = making.load
    monkeypatch.setattr(making, "load", lambda *given: loads.append(given) or original(*given))
    model, node = load(nodes, "t2v"), nodes["VideoCrafterTextToVideo"]
    for seed in (1, 2):
        node.execute(model, "a cat", **{**QUICK, "seed": seed})
    assert len(loads) == 1
    # ComfyUI's models make room each time.
    assert comfy.unloaded == 2
    with pytest.raises(ValueError, match="multiple of"):
        node.execute(model, "a cat", **{**QUICK, "width": 33})
    with pytest.raises(ValueError, match="needs an image"):
        node.execute(load(nodes, "i2v"), "a cat", **QUICK)


def test_the_pack_pins_nothing_and_needs_only_videocrafter():
    project = tomllib.loads((PACK / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == ["videocrafter"]
    assert "comfyui" not in project["project"]["name"].lower()
    assert project["tool"]["comfy"]["requires-comfyui"]


def test_running_out_of_memory_when_the_model_returns_to_the_gpu(nodes, comfy, monkeypatch):
    making = sys.modules["pack.making"]
    model, node = load(nodes, "t2v"), nodes["VideoCrafterTextToVideo"]
    node.execute(model, "a cat", **QUICK)
    places = []

    def to(place):
        places.append(str(place))
        if str(place) != "cpu":
            raise torch.OutOfMemoryError

    prepare = making.prepare
    monkeypatch.setattr(making._pipelines.pipeline, "to", to)
    monkeypatch.setattr("comfy.model_management.get_torch_device", lambda: torch.device("meta"))
    monkeypatch.setattr("comfy.model_management.soft_empty_cache", lambda: None, raising=False)
    monkeypatch.setattr(making, "prepare", lambda options: prepare(replace(options, device="cpu")))
    with pytest.raises(ValueError, match="out of memory"):
        node.execute(model, "a cat", **QUICK)
    assert places == ["meta", "cpu"], "no part of the model stays on the GPU"
