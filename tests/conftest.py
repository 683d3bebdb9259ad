"""Set-up for all tests: few threads, fixed seeds, no deadlines."""

import gc
import os
import sys

import pytest
from hypothesis import settings

# Must happen before torch is imported. `make test` runs one worker per core, so each gets one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imports create no garbage, and traversing their objects takes a tenth of the tests' time.
gc.disable()

settings.register_profile("house", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that none is still running when all other workers are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Enable garbage collection for objects created from now on, rarely: networks are many objects."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True)
def _separate_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's cache of converted models."""
    monkeypatch.setenv("VIDEOCRAFTER_HOME", str(tmp_path_factory.getbasetemp() / "videocrafter-home"))


@pytest.fixture(autouse=True)
def _seeded_torch() -> None:
    """Seed torch on the CPU if a test has imported it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.manual_seed(0)
