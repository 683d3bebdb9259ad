"""Routes that describe the studio: health, models, LoRAs, presets and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from videocrafter import __version__
from videocrafter.pipelines.knowledge import Knowledge
from videocrafter.pipelines.model_folder import PIPELINE_TASKS
from videocrafter.pipelines.quality_presets import PRESETS as QUALITY_PRESETS
from videocrafter.pipelines.quality_presets import preset_settings, quickest_preset
from videocrafter.presets import FAMILIES, PRESETS
from videocrafter.web.prompt_words import prompt_words
from videocrafter.web.studio import Studio
from videocrafter.web.worker.workers import Workers


def catalogue_router(studio: Studio, workers: Workers | None) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["catalogue"])

    @router.get("/health", summary="Whether the server and its workers run")
    def health() -> dict[str, Any]:
        """Return the `status`: "ok" if all workers run, "degraded" if some do, "no-worker" if none does."""
        studio.database.read("SELECT 1")
        found = [] if workers is None else workers.view()
        alive = [one["alive"] for one in found]
        status = "no-worker" if not any(alive) else "ok" if all(alive) else "degraded"
        return {
            "status": status,
            "version": __version__,
            "worker": any(alive),
            "workers": found,
        }

    @router.get("/models", summary="Models, LoRAs, presets and limits")
    def models() -> dict[str, Any]:
        """Return what requests may name, and what each model recommends and knows."""
        found = []
        for name, folder in studio.model_folders().items():
            index = studio.model_index(folder)
            if index is None:
                continue
            family = FAMILIES.get(name)
            tasks = sorted(family) if family else [PIPELINE_TASKS[str(index["_class_name"])]]
            preset = PRESETS.get(family["t2v"] if family else name)
            entry = {
                "name": name,
                "tasks": tasks,
                "description": preset.description if preset else "",
                **_recommended(index),
                "words": prompt_words(_knowledge(index)),
            }
            image_folder = PRESETS[family["i2v"]].folder if family else None
            if image_folder is not None:
                entry["with_image"] = _recommended(studio.model_index(image_folder) or {})
            found.append(entry)
        presets = {name: dict(settings) for name, settings in QUALITY_PRESETS.items()}
        loras = sorted(studio.library().loras)
        return {"models": found, "loras": loras, "presets": presets, "limits": asdict(studio.limits)}

    return router


def _recommended(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's settings, its presets and the quickest of them; a damaged folder has the usual presets."""
    defaults = index.get("defaults")
    try:
        presets = {name: preset_settings(name, defaults) for name in QUALITY_PRESETS}
        quickest, steps = quickest_preset(defaults)
    except (ValueError, TypeError):
        presets = {name: preset_settings(name, None) for name in QUALITY_PRESETS}
        quickest, steps = quickest_preset(None)
    return {
        "defaults": defaults or {},
        "presets": presets,
        "quickest": {"preset": quickest, "num_inference_steps": steps},
    }


def _knowledge(index: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    try:
        return Knowledge.from_config(index.get("knowledge")).to_config()
    except ValueError:
        return {}
