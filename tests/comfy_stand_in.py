"""A stand-in for the part of ComfyUI's public interface that our nodes use.

Written from its documentation (V3 schema, `comfy_api.latest`). Inputs and outputs remember what they were given, so
that tests compare workflows with the schema.
"""

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Interrupted(Exception):
    """As ComfyUI's InterruptProcessingException."""


@dataclass
class Port:
    id: str
    io_type: str
    optional: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def num_widgets(self) -> int:
        """Number of values that a workflow stores for this input."""
        if self.io_type not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
            return 0
        return 2 if self.settings.get("control_after_generate") else 1


def io_type(name: str) -> type:
    class Type:
        @staticmethod
        def Input(id: str, optional: bool = False, **settings: Any) -> Port:
            return Port(id, name, optional, settings)

        @staticmethod
        def Output(id: str | None = None, **settings: Any) -> Port:
            return Port(id or name, name, False, settings)

    return Type


@dataclass
class Schema:
    node_id: str
    display_name: str
    category: str
    inputs: list[Port]
    outputs: list[Port]
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_output_node: bool = False


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


@dataclass
class VideoComponents:
    images: Any
    frame_rate: Any
    audio: Any = None


class VideoFromComponents:
    def __init__(self, components: VideoComponents) -> None:
        self.components = components


@dataclass
class SavedResult:
    filename: str
    subfolder: str
    type: str


@dataclass
class PreviewVideo:
    values: list[SavedResult]


class StandIn:
    """What a test sets and sees."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.progress: list[tuple[float, float, Any]] = []
        self.interrupt_after: int | None = None
        self.unloaded = 0

    def install(self, monkeypatch: Any) -> None:
        """Place the modules where the nodes import them."""
        for name in ("temp", "output", "models/loras", "models/videocrafter"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for module in (self._api(), self._management(), self._paths()):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(sys.modules, "comfy_api", types.ModuleType("comfy_api"))
        comfy = types.ModuleType("comfy")
        comfy.model_management = sys.modules["comfy.model_management"]
        monkeypatch.setitem(sys.modules, "comfy", comfy)

    def _api(self) -> types.ModuleType:
        stand_in = self

        class Execution:
            def set_progress(self, value: float, max_value: float, node_id: Any = None, preview_image: Any = None):
                stand_in.progress.append((value, max_value, preview_image))

        class ComfyAPISync:
            execution = Execution()

        module = types.ModuleType("comfy_api.latest")
        names = {"Int": "INT", "Float": "FLOAT", "String": "STRING", "Boolean": "BOOLEAN", "Combo": "COMBO"}
        names |= {"Image": "IMAGE", "Video": "VIDEO"}
        module.io = types.SimpleNamespace(
            **{name: io_type(kind) for name, kind in names.items()},
            Custom=io_type,
            Schema=Schema,
            NodeOutput=NodeOutput,
            ComfyNode=type("ComfyNode", (), {}),
            FolderType=types.SimpleNamespace(output="output"),
        )
        module.ui = types.SimpleNamespace(PreviewVideo=PreviewVideo, SavedResult=SavedResult)
        module.InputImpl = types.SimpleNamespace(VideoFromComponents=VideoFromComponents)
        module.Types = types.SimpleNamespace(VideoComponents=VideoComponents)
        module.ComfyExtension = type("ComfyExtension", (), {})
        module.ComfyAPISync = ComfyAPISync
        return module

    def _management(self) -> types.ModuleType:
        import torch

        def throw_exception_if_processing_interrupted() -> None:
            if self.interrupt_after is not None and len(self.progress) >= self.interrupt_after:
                raise Interrupted

        def unload_all_models() -> None:
            self.unloaded += 1

        module = types.ModuleType("comfy.model_management")
        module.throw_exception_if_processing_interrupted = throw_exception_if_processing_interrupted
        module.unload_all_models = unload_all_models
        module.get_torch_device = lambda: torch.device("cpu")
        return module

    def _paths(self) -> types.ModuleType:
        def get_save_image_path(prefix: str, folder: str, width: int, height: int):
            target = Path(folder) / Path(prefix).parent
            target.mkdir(parents=True, exist_ok=True)
            taken = [int(path.name.split("_")[-2]) for path in target.glob(f"{Path(prefix).name}_*_.*")]
            number = max(taken, default=0) + 1
            return str(target), Path(prefix).name, number, str(Path(prefix).parent), prefix

        module = types.ModuleType("folder_paths")
        module.models_dir = str(self.root / "models")
        module.get_temp_directory = lambda: str(self.root / "temp")
        module.get_output_directory = lambda: str(self.root / "output")
        module.get_filename_list = lambda kind: [p.name for p in (self.root / "models" / kind).glob("*.safetensors")]
        module.get_full_path_or_raise = lambda kind, name: str(self.root / "models" / kind / name)
        module.get_save_image_path = get_save_image_path
        return module
