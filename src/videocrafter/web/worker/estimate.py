"""Estimate the memory of a request before it is queued. Runs in the worker, which has the heavy libraries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videocrafter.generation.chosen_model import chosen_model
from videocrafter.generation.errors import GenerationError
from videocrafter.presets import resolve_model
from videocrafter.web.job_request import JobRequest, generate_options
from videocrafter.web.studio import Studio

if TYPE_CHECKING:
    from videocrafter.generation.mode import Pipeline


def estimate(studio: Studio, request: Mapping[str, Any], pipeline: Pipeline | None = None) -> dict[str, Any]:
    """Return `needed_bytes`, `available_bytes`, `fits` and `suggestions`; or `error`, what is wrong.

    Args:
        studio: the worker's.
        request: of a job.
        pipeline: the one that the worker holds; its memory counts as available.
    """
    from videocrafter.generation.hardware import choose_device, choose_dtype
    from videocrafter.generation.memory_check import estimate_memory, memory_for

    try:
        options = generate_options(
            JobRequest.model_validate(request), studio.library(), Path("v.mp4"), device=studio.config.device
        )
        options, folder = chosen_model(options, resolve_model)
        device = choose_device(options.device)
        found = estimate_memory(options, folder, memory_for(device, pipeline), choose_dtype(options.dtype))
    except (GenerationError, ValueError, OSError) as error:
        return {"error": str(error)}
    return {
        "needed_bytes": found.need.total,
        "available_bytes": found.available,
        "fits": found.fits,
        "suggestions": [dict(settings) for settings in found.fitting],
        "device": str(device),
    }
