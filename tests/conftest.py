"""Set-up that all tests share: few threads, settled randomness, patience with slow machines."""

import gc
import os
import sys

import pytest
from hypothesis import settings

# Must happen before torch is imported. `make test` runs one worker per core, so each gets one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nothing that imports make is garbage, and walking through it takes a tenth of the tests' time.
gc.disable()

settings.register_profile("house", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files with slow tests begin, so that at the end no worker is left alone with one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Collect garbage from here on, and leave out what is there."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache of converted models."""
    monkeypatch.setenv("VIDEOCRAFTER_HOME", str(tmp_path_factory.getbasetemp() / "videocrafter-home"))


@pytest.fixture(autouse=True)
def _settled_torch() -> None:
    """Seed torch on the CPU for tests that use it, without importing it for those that do not."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.manual_seed(0)
