"""axe finds nothing serious on the pages of evaluations, comparisons and user studies, in both themes."""

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

from tests.browser.conftest import serious_violations, serving
from tests.tiny_studies import SYSTEMS, make_tiny_study, write_systems
from tests.unit.evaluation.conftest import WEIGHTLESS
from videocrafter.evaluation.comparison.matching import match_videos
from videocrafter.evaluation.comparison.writing import PageSettings, write_comparison
from videocrafter.evaluation.evaluation_run import evaluate_videos
from videocrafter.evaluation.measuring import Measurer
from videocrafter.evaluation.metrics.networks import Networks
from videocrafter.evaluation.report_files import PAGE, write_report_files
from videocrafter.evaluation.study.server import study_app
from videocrafter.evaluation.video_set import read_video_set

pytestmark = pytest.mark.parametrize("theme", ["light", "dark"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report, a comparison and a study of the same videos."""
    folder = tmp_path_factory.mktemp("pages")
    sets = {name: read_video_set(path) for name, path in write_systems(folder / "systems").items()}
    outcome = evaluate_videos(sets[SYSTEMS[0]], Measurer(WEIGHTLESS, Networks()), folder / "report")
    write_report_files(folder / "report", outcome.report, outcome.videos)
    metrics = {SYSTEMS[0]: {(line["name"], line["prompt"], line["seed"]): line["values"] for line in outcome.videos}}
    write_comparison(match_videos(sets), SYSTEMS, folder / "comparison", PageSettings(), metrics=metrics)
    make_tiny_study(folder, votes_per_item=100, votes_per_rater=1, checks_per_rater=0, training_per_rater=0)
    return folder


def opened(open_page, theme, address, width=1000):
    # axe is a script of its own, which the studies' content security policy forbids.
    page = open_page(color_scheme=theme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.goto(address)
    return page


def test_the_report(open_page, theme, folder):
    page = opened(open_page, theme, (folder / "report" / PAGE).as_uri(), width=375)
    page.locator("details summary").click()
    assert serious_violations(page) == []


def test_the_comparison(open_page, theme, folder):
    page = opened(open_page, theme, (folder / "comparison" / "index.html").as_uri())
    page.locator("canvas[data-frame]").first.wait_for()
    page.locator("#difference").check()
    assert serious_violations(page) == []


def test_a_study_from_consent_to_thanks(open_page, theme, folder):
    with serving(study_app(folder / "study")) as address:
        page = opened(open_page, theme, address)
        page.get_by_label("I have read this").wait_for()
        assert serious_violations(page) == []
        page.get_by_label("I have read this").check()
        page.get_by_role("button", name="Start").click()
        for _ in range(3):
            page.locator("#aspects input:enabled").first.wait_for()
            assert serious_violations(page) == []
            for group in page.locator("#aspects fieldset").all():
                group.get_by_label("A", exact=True).check()
            page.get_by_role("button", name="Next").click()
            page.wait_for_timeout(500)
            if not page.locator("#aspects").is_visible():
                break
        page.get_by_text("Thank you").first.wait_for()
        assert serious_violations(page) == []
