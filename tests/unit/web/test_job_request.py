"""Presets never slow a model down, or take its own sampler from it."""

from pathlib import Path

import pytest

from videocrafter.web.job_request import JobRequest, Library, generate_options, quickest_preset


@pytest.mark.parametrize(
    ("own_steps", "expected"), [(25, ("draft", 6)), (6, ("quality", 6)), (4, ("quality", 4)), (None, ("draft", 6))]
)
def test_the_quickest_way_of_a_model(own_steps, expected):
    assert quickest_preset(own_steps) == expected


@pytest.mark.parametrize(("own_steps", "taken"), [(25, True), (12, False), (4, False), (None, True)])
def test_a_model_of_few_steps_keeps_its_own_sampler(own_steps, taken):
    library = Library(
        models={}, loras={}, known_models=["tiny"], file_of=lambda one: Path(one), own_steps=lambda model: own_steps
    )
    options = generate_options(JobRequest(prompt="a", preset="fast"), library, Path("v.mp4"))
    assert (options.scheduler == "dpm++2m") == taken
    assert ("num_inference_steps" in options.sampling) == taken
    given = JobRequest(prompt="a", preset="fast", scheduler="euler", num_inference_steps=3)
    assert generate_options(given, library, Path("v.mp4")).scheduler == "euler"


def test_the_catalogue_names_the_quickest_way(client):
    models = client.get("/api/v1/models").json()["models"]
    assert {"preset": "draft", "num_inference_steps": 6} in [model["quickest"] for model in models]
