"""From requests of the studio to a generation's options."""

from pathlib import Path

from videocrafter.web.job_request import JobRequest, Library, generate_options


def test_a_preset_reaches_the_generation_and_leaves_what_was_given():
    library = Library(models={}, loras={}, known_models=["tiny"], file_of=lambda one: Path(one))
    given = JobRequest(prompt="a", preset="fast", scheduler="euler", num_inference_steps=3)
    options = generate_options(given, library, Path("v.mp4"))
    assert (options.preset, options.scheduler, options.sampling) == ("fast", "euler", {"num_inference_steps": 3})


def test_the_catalogue_names_the_quickest_way(client):
    models = client.get("/api/v1/models").json()["models"]
    assert {"preset": "draft", "num_inference_steps": 6} in [model["quickest"] for model in models]


def test_the_catalogue_describes_a_family_with_and_without_a_picture(client):
    (tiny,) = [model for model in client.get("/api/v1/models").json()["models"] if model["name"] == "tiny"]
    assert tiny["defaults"]["num_inference_steps"] == 4
    assert tiny["presets"]["quality"]["model"] == "tiny-t2v"
    assert tiny["with_image"]["defaults"]["num_inference_steps"] == 25
    assert tiny["with_image"]["presets"]["quality"] == {}
