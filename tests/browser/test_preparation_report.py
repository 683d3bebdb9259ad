"""The report of a preparation is one file: funnel, histograms and pictures show, and no request leaves the page."""

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

from tests.unit.preparation.films import shot, small_config, write_film
from tests.unit.preparation.inline_engine import InlineEngine
from videocrafter.preparation import run as running
from videocrafter.preparation.run import prepare


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a film with a frozen shot, a copy of another film, and a file that is not a video."""
    folder = tmp_path_factory.mktemp("preparation")
    write_film(folder / "films" / "one.mp4", shot(1, 60) + shot(2, 60, "frozen") + shot(3, 60, "bars"))
    whole = write_film(folder / "films" / "whole.mp4", shot(4, 72))
    (folder / "films" / "copy.mp4").write_bytes(whole.read_bytes())
    (folder / "films" / "text.mp4").write_text("not a video")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_engine", lambda name, job: InlineEngine(job))
        prepare([str(folder / "films")], folder / "out", small_config("caption.text=shapes move"))
    return folder / "out" / "report.html"


def test_the_report_shows_everything_from_one_file(open_page, report):
    page = open_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert page.get_by_text("in the shards").is_visible()
    assert page.locator("#funnel + .funnels table").first.get_by_text("clips found").is_visible()
    histograms = page.locator("h3 + svg")
    assert histograms.count() >= 8
    assert all(one.bounding_box()["height"] > 50 for one in histograms.all())
    assert page.locator("line.limit").count() >= 8
    assert page.get_by_text("unreadable: 1").is_visible()

    frozen = page.locator("h3", has_text="frozen").locator("xpath=following-sibling::details[1]")
    frozen.locator("summary").click()
    picture = frozen.locator("img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('details[open] img').naturalWidth > 0")
    assert picture.bounding_box()["width"] == 120
    copies = page.locator("#copies ~ .row").first
    copies.scroll_into_view_if_needed()
    assert copies.locator("img").count() == 2
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def test_the_report_fits_a_phone(open_page, report):
    page = open_page(viewport={"width": 375, "height": 700})
    page.goto(report.as_uri())
    assert page.locator("h1").bounding_box()["x"] >= 0
    assert page.locator("h3 + svg").first.bounding_box()["width"] <= 375
