"""Versions of all software that affects the result of a seed, for the recording of a video."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from videocrafter import __version__

_LIBRARIES = ("torch", "diffusers", "transformers")


def versions() -> dict[str, str]:
    """Return versions by name: this package, Python and the numerical libraries."""
    libraries = {name: _installed(name) for name in _LIBRARIES}
    return {"videocrafter": __version__, "python": platform.python_version(), **libraries}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
