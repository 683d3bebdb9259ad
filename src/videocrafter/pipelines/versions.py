"""Versions of everything that decides what a seed gives, for the recording beside a video."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from videocrafter import __version__

_LIBRARIES = ("torch", "diffusers", "transformers")


def versions() -> dict[str, str]:
    """Versions by name: this package, Python and the libraries that compute."""
    libraries = {name: _installed(name) for name in _LIBRARIES}
    return {"videocrafter": __version__, "python": platform.python_version(), **libraries}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
