"""The description of the API is checked in, and the guide names every route and every limit."""

import json
import time
from dataclasses import fields
from pathlib import Path

from starlette.testclient import TestClient

from videocrafter.web.app import create_app
from videocrafter.web.limits import Limits
from videocrafter.web.maintenance import recover

DOCS = Path(__file__).parents[3] / "docs"


def described(client):
    schema = client.get("/api/v1/openapi.json").json()
    # Versions of FastAPI word their own parts differently.
    return {
        path: {
            method: {
                "summary": operation["summary"],
                "parameters": sorted(one["name"] for one in operation.get("parameters", ())),
                "body": "requestBody" in operation,
            }
            for method, operation in methods.items()
        }
        for path, methods in schema["paths"].items()
    }


def test_the_checked_in_description_is_that_of_the_code(client):
    path = DOCS / "api/openapi.json"
    schema = client.get("/api/v1/openapi.json").json()
    checked_in = json.loads(path.read_text(encoding="utf-8"))
    assert set(checked_in["paths"]) == set(schema["paths"]), "write it anew: python runs/write_openapi.py"
    settings = "components", "schemas", "JobRequest", "properties"
    for key in settings:
        checked_in, schema = checked_in[key], schema[key]
    assert set(checked_in) == set(schema), "write it anew: python runs/write_openapi.py"


def test_every_operation_is_described(client):
    for path, methods in described(client).items():
        assert path.startswith("/api/v1/")
        for operation in methods.values():
            assert operation["summary"]


def test_the_security_page_lists_every_limit():
    page = (DOCS / "studio_security.md").read_text(encoding="utf-8")
    assert [one.name for one in fields(Limits) if f"`{one.name}`" not in page] == []


def test_every_page_is_served_with_its_script(client):
    from videocrafter.web.page_routes import PAGES

    for name in PAGES:
        assert f'data-page="{name}"' in client.get(f"/{name}").text
        assert client.get(f"/static/{name}.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/nothing").status_code == 404
    assert client.get("/api/v1/nothing").json()["code"] == "not-found"


def test_the_folder_is_cleaned_when_the_server_is_up(studio, add_video):
    video = add_video()
    studio.database.connection.execute("UPDATE videos SET deleted_s = 1 WHERE id = ?", (video,))
    recover(studio)
    assert studio.videos.ids() == {video}
    with TestClient(create_app(studio, None), base_url="http://127.0.0.1:7860"):
        end = time.monotonic() + 60
        while studio.videos.ids():
            assert time.monotonic() < end
            time.sleep(0.01)
    assert not studio.folder.video(video).exists()
