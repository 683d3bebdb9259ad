"""ComfyUI nodes of videocrafter. ComfyUI finds them through `comfy_entrypoint`."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
