"""Raters in a real browser: on a phone, by keyboard only, in two windows, without a connection, in both themes."""

import sqlite3
from contextlib import closing

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.tiny_studies import SYSTEMS, make_tiny_study
from videocrafter.evaluation.study.server import study_app
from videocrafter.evaluation.study.store import DATABASE_FILE

PHONE = {"viewport": {"width": 375, "height": 720}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    make_tiny_study(folder, votes_per_item=100, votes_per_rater=2, checks_per_rater=1)
    return folder / "study"


@pytest.fixture
def address(folder):
    with serving(study_app(folder)) as address:
        yield address


def stored(folder):
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as database:
        return database.execute("SELECT rater, position, answer FROM answers ORDER BY rater, position").fetchall()


def start(page, address):
    page.goto(address)
    page.get_by_label("I have read this").check()
    page.get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Next").wait_for()


def watch(page):
    """Wait until both clips were shown to their end; the answers are then enabled."""
    page.locator("#aspects input:enabled").first.wait_for()


def answer(page, choice="A"):
    watch(page)
    for group in page.locator("#aspects fieldset").all():
        group.get_by_label(choice, exact=True).check()
    page.get_by_role("button", name="Next").click()


def no_sideways_scrolling(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_h264_plays(open_page, address):
    page = open_page()
    start(page, address)
    assert (
        page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"')")
        == "probably"
    )
    watch(page)
    assert page.evaluate("document.querySelector('video').videoWidth") == 32


def test_a_rater_finishes_on_a_phone_by_thumb(open_page, address, folder):
    page = open_page(**PHONE)
    page.goto(address)
    assert no_sideways_scrolling(page)
    start(page, address)
    before = len(stored(folder))
    watch(page)
    assert no_sideways_scrolling(page)
    for number in range(4):
        watch(page)
        for group in page.locator("#aspects fieldset").all():
            group.locator("label").filter(has_text="B").tap()
        page.get_by_role("button", name="Next").tap()
        if number == 0:
            page.get_by_role("button", name="Continue").tap()
    page.get_by_text("Thank you!").wait_for()
    assert len(stored(folder)) == before + 4
    assert len(page.locator("#code").inner_text()) == 8


def test_a_rater_finishes_by_keyboard_alone(open_page, address, folder):
    page = open_page()
    page.goto(address)
    page.get_by_label("I have read this").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    watch(page)
    page.keyboard.press("2")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Continue").wait_for()
    page.keyboard.press("Enter")
    for number in range(2, 5):
        expect(page.locator("#count")).to_have_text(f"{number} of 4")
        watch(page)
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("3")
        assert page.locator("#aspects input:checked").count() == 2
        page.keyboard.press("Enter")
    page.get_by_text("Thank you!").wait_for()
    assert {text for _, position, text in stored(folder)[-3:]} == {
        '{"visual_quality": "left", "motion_quality": "right"}'
    }


def test_reloading_and_going_back_keep_answers(open_page, address):
    page = open_page()
    start(page, address)
    answer(page, "Equal")
    page.get_by_role("button", name="Continue").click()
    answer(page, "A")
    expect(page.locator("#count")).to_have_text("3 of 4")
    page.reload()
    expect(page.locator("#count")).to_have_text("3 of 4")
    page.get_by_role("button", name="Back").click()
    expect(page.locator("#count")).to_have_text("2 of 4")
    assert [one.is_checked() for one in page.get_by_label("A", exact=True).all()] == [True, True]
    page.locator("fieldset").first.get_by_label("B", exact=True).check()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#count")).to_have_text("3 of 4")


def test_two_windows_and_withdrawing(open_page, address):
    first, second = open_page(), open_page()
    start(first, address)
    second.goto(first.url)
    watch(first)
    answer(second, "A")
    second.get_by_role("button", name="Continue").wait_for()
    answer(first, "B")
    first.get_by_text("answered in another window").wait_for()
    assert first.locator("#count").inner_text() == "2 of 4"
    first.get_by_text("Your link, keys, and withdrawing").click()
    first.get_by_role("button", name="Withdraw…").click()
    first.get_by_role("button", name="Delete and leave").click()
    first.get_by_text("your answers were deleted").wait_for()
    second.reload()
    second.get_by_text("your answers were deleted").wait_for()


def test_a_lost_connection_is_reported_and_the_answer_sent_again(open_page, address, folder):
    page = open_page()
    start(page, address)
    watch(page)
    before = len(stored(folder))
    page.route("**/api/tasks/0", lambda route: route.abort() if route.request.method == "PUT" else route.continue_())
    answer(page, "A")
    page.get_by_text("No connection").wait_for()
    assert len(stored(folder)) == before
    page.unroute("**/api/tasks/0")
    page.get_by_role("button", name="Continue").wait_for()
    assert len(stored(folder)) == before + 1


def test_prompts_are_text_and_no_system_is_named(open_page, address):
    page = open_page()
    start(page, address)
    watch(page)
    texts = [page.content()]
    answer(page, "A")
    page.get_by_role("button", name="Continue").click()
    watch(page)
    texts.append(page.content())
    assert page.locator("#prompt b").count() == 0
    assert not any(name in text for name in SYSTEMS for text in texts)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_pages_in_both_themes(open_page, address, scheme):
    page = open_page(viewport={"width": 320, "height": 700}, color_scheme=scheme)
    start(page, address)
    watch(page)
    assert no_sideways_scrolling(page)
    small = page.evaluate(
        "[...document.querySelectorAll('button, .options span, .check, summary')].filter(e => e.offsetParent)"
        ".filter(e => e.getBoundingClientRect().height < 24).map(e => e.textContent)"
    )
    assert small == []


def test_reduced_motion_does_not_start_by_itself(open_page, address):
    page = open_page(reduced_motion="reduce")
    start(page, address)
    assert page.evaluate("[...document.querySelectorAll('video')].map(video => video.paused)") == [True, True]
    page.get_by_role("button", name="Play").click()
    watch(page)
