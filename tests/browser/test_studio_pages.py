"""Pages of a studio without a worker, for states that a queue reaches seldom. No model is loaded here."""

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.unit.web.conftest import add_video, studio
from videocrafter.web.app import create_app

__all__ = ["add_video", "studio"]  # fixtures
PATIENCE_MS = 120_000


@pytest.fixture
def address(studio):
    with serving(create_app(studio, None)) as address:
        yield address


def test_a_comparison_is_not_loaded_again_for_videos_that_it_leaves_out(studio, address, add_video, open_page):
    videos = [studio.videos.get(add_video()) for _ in range(2)]
    studio.videos.set_deleted(videos[1].id, True)
    page = open_page(may_fail=True)  # the pictures: these are not real videos
    loads = []
    page.on("request", lambda one: loads.append(one.url) if one.is_navigation_request() else None)
    with page.expect_response("**/api/v1/jobs/*"):
        page.goto(f"{address}/compare?jobs={','.join(one.job for one in videos)}")
    expect(page.locator("#grid-make")).to_have_text("Compare", timeout=PATIENCE_MS)
    page.wait_for_timeout(500)
    assert len(loads) == 1
