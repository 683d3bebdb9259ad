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


def test_a_live_prompt_that_is_emptied_while_it_is_sent_leaves_no_job(studio, address, open_page):
    page = open_page()
    held = []
    page.route("**/api/v1/live/*", lambda route: held.append(route))
    page.goto(f"{address}/live")
    expect(page.get_by_label("Model")).not_to_have_value("", timeout=PATIENCE_MS)
    with page.expect_request("**/api/v1/live/*"):
        page.get_by_label("Prompt").fill("a cat")
    page.get_by_label("Prompt").fill("")
    expect(page.locator("#live-state")).to_contain_text("Type a prompt", timeout=PATIENCE_MS)
    page.wait_for_timeout(500)  # longer than the pause of typing
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
        held[0].continue_()
    assert deleted.value.json()["state"] == "cancelled"


def test_the_hint_about_quality_is_about_the_chosen_model(address, open_page):
    page = open_page()

    def answer(route):
        found = route.fetch().json()
        found["models"][0]["defaults"] = {"num_inference_steps": 40}
        found["models"][0]["presets"] = {"quality": {}, "fast": {"num_inference_steps": 9}, "draft": {}}
        route.fulfill(json=found)

    page.route("**/api/v1/models", answer)
    page.goto(address)
    hint = "Quality: 40 steps, Fast: 9 steps, Draft: 40 steps. Fewer are quicker, with less detail."
    expect(page.locator("#preset-hint")).to_have_text(hint, timeout=PATIENCE_MS)


def test_a_grid_with_too_many_empty_cells_says_why_they_are_not_made(studio, address, add_video, open_page):
    ids = [
        add_video(f"prompt {number}", recording={"prompt": f"prompt {number}", "seed": 1, "guidance_scale": number})
        for number in range(9)
    ]
    page = open_page(may_fail=True)  # the pictures: these are not real videos
    page.goto(f"{address}/compare?ids={','.join(ids)}")
    cells = page.locator("#empty-cells")
    expect(cells).to_contain_text("72 cells have no video. They cannot be made here", timeout=PATIENCE_MS)
    assert cells.get_by_role("button").count() == 0
