"""The health of the studio and its list of models."""

from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from videocrafter.web.api.catalogue import catalogue_router


@pytest.mark.parametrize(
    ("alive", "status"),
    [((True, True), "ok"), ((True, False), "degraded"), ((False, False), "no-worker"), ((), "no-worker")],
)
def test_health_tells_some_workers_from_none(studio, alive, status):
    app = FastAPI()
    workers = SimpleNamespace(view=lambda: [{"device": "cpu", "alive": one} for one in alive])
    app.include_router(catalogue_router(studio, workers))
    health = TestClient(app).get("/health").json()
    assert (health["status"], health["worker"]) == (status, any(alive))
