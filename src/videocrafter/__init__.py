"""VideoCrafter1: text-to-video and image-to-video diffusion (arXiv 2310.19512).

Importing this package loads nothing heavy: the names below are fetched from their rooms on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videocrafter.models.image_projector import ImageProjector
    from videocrafter.models.unet import VideoUNet
    from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

__version__ = "0.1.0"

__all__ = ["ImageProjector", "ImageToVideoPipeline", "TextToVideoPipeline", "VideoUNet", "__version__"]

# diffusers finds the parts of a saved pipeline with `getattr(videocrafter, class_name)`,
# so every class that stands in a `model_index.json` must be here.
_ROOM_OF = {
    "ImageProjector": "videocrafter.models.image_projector",
    "ImageToVideoPipeline": "videocrafter.pipelines.image_to_video",
    "TextToVideoPipeline": "videocrafter.pipelines.text_to_video",
    "VideoUNet": "videocrafter.models.unet",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'videocrafter' has no attribute {name!r}")
    value = getattr(import_module(_ROOM_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOM_OF])
