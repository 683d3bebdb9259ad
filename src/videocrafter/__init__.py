"""VideoCrafter1: text-to-video and image-to-video diffusion (arXiv 2310.19512).

Importing this package loads no heavy library: the public names are imported on first use.
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

# diffusers looks up the classes in a `model_index.json` with `getattr(videocrafter, class_name)`, so all of them must
# be listed here.
_MODULE_OF = {
    "ImageProjector": "videocrafter.models.image_projector",
    "ImageToVideoPipeline": "videocrafter.pipelines.image_to_video",
    "TextToVideoPipeline": "videocrafter.pipelines.text_to_video",
    "VideoUNet": "videocrafter.models.unet",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'videocrafter' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
