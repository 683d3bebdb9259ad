"""The nodes. Ids, names of inputs and their order are fixed for ever: workflows store them. Only append inputs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import ComfyExtension, InputImpl, Types, io, ui

from .making import Model, make_video, model_names, save_video

MODEL = io.Custom("VIDEOCRAFTER_MODEL")
SETTINGS = io.Custom("VIDEOCRAFTER_SETTINGS")
CATEGORY = "videocrafter"
SEEDS = 2**53
"""Larger seeds are not exact in a browser."""


def _sampling_inputs() -> list[Any]:
    """Return the inputs that all making nodes share, 0 and empty standing for the model's own value."""
    return [
        io.Int.Input("seed", default=0, min=0, max=SEEDS, control_after_generate=True),
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip="Sampling steps; 0 is the model's own number."),
        io.Float.Input("guidance", default=0.0, min=0.0, max=30.0, step=0.1, tooltip="0 is the model's own value."),
        io.Int.Input("frames", default=0, min=0, max=10_000, tooltip="0 is the model's own number."),
        io.Int.Input("width", default=0, min=0, max=8192, tooltip="Pixels; 0 is the model's own size."),
        io.Int.Input("height", default=0, min=0, max=8192, tooltip="Pixels; 0 is the model's own size."),
        io.Float.Input("fps", default=0.0, min=0.0, max=1000.0, tooltip="Motion speed; 0 is the model's own."),
        io.String.Input("negative", default="", multiline=True, tooltip="What the video should not show."),
    ]


def _outputs() -> list[Any]:
    return [
        io.Image.Output("images", tooltip="The frames."),
        io.Video.Output("video", tooltip="The frames with their rate, for Save Video."),
        SETTINGS.Output("settings", tooltip="Every setting, for Save VideoCrafter Video."),
    ]


def _made(model: Model, **settings: Any) -> io.NodeOutput:
    images, fps, recording = make_video(model, **settings)
    components = Types.VideoComponents(images=images, frame_rate=Fraction(fps).limit_denominator(1001))
    return io.NodeOutput(images, InputImpl.VideoFromComponents(components), recording)


class LoadModel(io.ComfyNode):
    """Choose a model; it is loaded by the first node that makes a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VideoCrafterLoadModel",
            display_name="Load VideoCrafter Model",
            category=CATEGORY,
            description="A model by name, or a pipeline folder in ComfyUI's folder models/videocrafter.",
            search_aliases=["videocrafter", "text to video", "image to video"],
            inputs=[
                io.Combo.Input("model", options=model_names(), default="tiny"),
                io.Combo.Input("precision", options=["float32", "bfloat16", "float16"], default="float32"),
            ],
            outputs=[MODEL.Output("model")],
        )

    @classmethod
    def execute(cls, model: str, precision: str) -> io.NodeOutput:
        """Return the choice."""
        return io.NodeOutput(Model(name=model, dtype=precision))


class AddLora(io.ComfyNode):
    """Add a LoRA of ComfyUI's folder models/loras to a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VideoCrafterAddLora",
            display_name="Add VideoCrafter LoRA",
            category=CATEGORY,
            inputs=[
                MODEL.Input("model"),
                io.Combo.Input("lora", options=folder_paths.get_filename_list("loras")),
                io.Float.Input("weight", default=1.0, min=-10.0, max=10.0, step=0.05),
            ],
            outputs=[MODEL.Output("model")],
        )

    @classmethod
    def execute(cls, model: Model, lora: str, weight: float) -> io.NodeOutput:
        """Return the model with one more LoRA."""
        path = Path(folder_paths.get_full_path_or_raise("loras", lora))
        return io.NodeOutput(model.with_lora(path, weight))


class TextToVideo(io.ComfyNode):
    """Make a video from a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VideoCrafterTextToVideo",
            display_name="VideoCrafter Text to Video",
            category=CATEGORY,
            inputs=[
                MODEL.Input("model"),
                io.String.Input("prompt", default="a rocket flying up over a blue sky", multiline=True),
                *_sampling_inputs(),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, model: Model, prompt: str, **settings: Any) -> io.NodeOutput:
        """Make the video."""
        return _made(model, prompt=prompt, **settings)


class ImageToVideo(io.ComfyNode):
    """Make a video from an image and a prompt; with a second image, the video leads from one to the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VideoCrafterImageToVideo",
            display_name="VideoCrafter Image to Video",
            category=CATEGORY,
            inputs=[
                MODEL.Input("model"),
                io.Image.Input("image", tooltip="Guides the content; the first of a batch is used."),
                io.String.Input("prompt", default="it is flying left", multiline=True),
                *_sampling_inputs(),
                io.Image.Input("last_image", optional=True, tooltip="The video ends with this image."),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, model: Model, image: Any, prompt: str, last_image: Any = None, **settings: Any) -> io.NodeOutput:
        """Make the video."""
        return _made(model, prompt=prompt, image=image, last_image=last_image, **settings)


class LongVideo(io.ComfyNode):
    """Make a video longer than in training, or a seamless loop."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VideoCrafterLongVideo",
            display_name="VideoCrafter Long Video or Loop",
            category=CATEGORY,
            inputs=[
                MODEL.Input("model"),
                io.String.Input("prompt", default="a fish moving left in the ocean", multiline=True),
                *_sampling_inputs(),
                io.Boolean.Input("loop", default=False, tooltip="The last frame leads to the first."),
                io.Int.Input("window", default=0, min=0, max=1000, tooltip="Frames at once; 0 is as in training."),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, model: Model, prompt: str, loop: bool, window: int, **settings: Any) -> io.NodeOutput:
        """Make the video."""
        return _made(model, prompt=prompt, loop=loop, window=window, **settings)


class SaveVideo(io.ComfyNode):
    """Save a video with its settings, from which `videocrafter generate --from` and the studio repeat it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VideoCrafterSaveVideo",
            display_name="Save VideoCrafter Video",
            category=CATEGORY,
            is_output_node=True,
            inputs=[
                io.Image.Input("images"),
                SETTINGS.Input("settings"),
                io.String.Input("prefix", default="videocrafter/video"),
                io.Combo.Input("format", options=["mp4", "webm", "gif"], default="mp4"),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, images: Any, settings: dict[str, Any], prefix: str, format: str) -> io.NodeOutput:  # noqa: A002
        """Write the next free name below ComfyUI's output folder, and show the video."""
        height, width = images.shape[1:3]
        folder, name, number, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), width, height
        )
        file = f"{name}_{number:05}_.{format}"
        save_video(Path(folder) / file, images, settings)
        return io.NodeOutput(ui=ui.PreviewVideo([ui.SavedResult(file, subfolder, io.FolderType.output)]))


NODES = (LoadModel, AddLora, TextToVideo, ImageToVideo, LongVideo, SaveVideo)


class VideoCrafterExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return all nodes."""
        return list(NODES)


async def comfy_entrypoint() -> VideoCrafterExtension:
    """Return the extension; ComfyUI calls this."""
    return VideoCrafterExtension()
