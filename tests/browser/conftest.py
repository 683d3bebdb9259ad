"""A real browser for the tests in this folder: Debian's Chromium, driven by Playwright.

`make test-browser` runs them. They are skipped, with the reason, where the browser or its driver is missing.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# As root, and without requests of the browser's own.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that `pytest -m "not browser"` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    path = os.environ.get("VIDEOCRAFTER_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"needs a browser: install one of {', '.join(NAMES)}, or name it in VIDEOCRAFTER_BROWSER")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages that fail the test on errors in scripts, in the console, and on requests to other hosts.

    With `may_fail`, answers of the server that are errors of its own are expected.
    """
    contexts, problems = [], []

    def opened(*, may_fail: bool = False, **settings: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1000, "height": 900}} | settings))
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        reported = ("status of 4", "status of 5") if may_fail else ("status of 4",)

        def read(entry: Any) -> None:
            # Refused answers and lost connections are reported to the user, and the console repeats them.
            if entry.type == "error" and not any(text in entry.text for text in (*reported, "net::ERR_")):
                problems.append(entry.text)

        page.on("console", read)

        def look(request: Any) -> None:
            if not request.url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:")):
                problems.append(f"request to {request.url}")

        page.on("request", look)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on a free port of this machine; yield its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def serious_violations(page: Any) -> list[tuple[str, list[str]]]:
    """Return what axe finds on a page that is serious or critical: the rule, and the elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
