"""The comparison page in a real browser, from a file: one clock, exact frames, differences, keys, small screens."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

from playwright.sync_api import expect

from videocrafter.evaluation.comparison.matching import match_videos
from videocrafter.evaluation.comparison.writing import PageSettings, write_comparison
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import read_frames, write_video

PROMPTS = ("a red <i>square</i>", "a green square", "a blue square")
FRAMES = 6


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Two columns: `a` with 6 frames of 8 per second and an image, `b` with 12 of 16; `b` lacks the last prompt."""
    folder = tmp_path_factory.mktemp("videos")
    write_image(folder / "input.png", np.full((32, 32, 3), 99, np.uint8))
    for name, factor in (("a", 1), ("b", 2)):
        (folder / name).mkdir()
        for index, prompt in enumerate(PROMPTS[: 4 - factor]):
            frames = np.zeros((FRAMES * factor, 32, 32, 3), np.uint8)
            frames[..., index] = 10 + 20 * np.arange(FRAMES * factor)[:, None, None]
            record = {"prompt": prompt, "seed": 1, "scheduler": "ddim" if name == "a" else "euler"}
            record |= {"image": "../input.png"} if index == 0 else {}
            write_video(folder / name / f"{index}.mp4", frames, 8 * factor, record)
    return match_videos({name: read_video_set(folder / name) for name in ("a", "b")})


@pytest.fixture(scope="module")
def page_file(rows, tmp_path_factory):
    output = tmp_path_factory.mktemp("page")
    metrics = {"a": {("0.mp4", PROMPTS[0], 1): {"clip_score": 0.31234, "frames": 6.0}}}
    write_comparison(rows, ["a", "b"], output, PageSettings(title="Two <b>columns</b>"), metrics=metrics)
    return output / "index.html"


def opened(open_page, path, **settings):
    page = open_page(**settings)
    page.goto(path.as_uri())
    page.locator("canvas[data-frame]").nth(1).wait_for()
    return page


def shown(page):
    return page.evaluate("[...document.querySelectorAll('canvas')].map(c => Number(c.dataset.frame))")


def test_cells_of_different_rates_play_in_step(open_page, page_file):
    page = opened(open_page, page_file)
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    seen = page.evaluate(
        """async () => {
          const seen = [];
          for (let i = 0; i < 120; i++) {
            await new Promise(requestAnimationFrame);
            seen.push([...document.querySelectorAll('canvas')].map(c => Number(c.dataset.frame)));
          }
          return seen;
        }"""
    )
    # At every moment `b`, twice as fast, shows one of the two frames that belong to the frame of `a`: drift is zero.
    for first, second, third, fourth, fifth in seen:
        assert first == third == fifth
        assert second == fourth
        assert second // 2 == first
    assert len({tuple(one) for one in seen}) >= 4, "it did not play"


def test_single_frames_are_exact(open_page, page_file, rows):
    page = opened(open_page, page_file, reduced_motion="reduce")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(page.locator("#shown")).to_have_text("1 of 12")
    for step in (0, 1, 2, 11):
        page.locator("#frame").fill(str(step))
        assert shown(page) == [step // 2, step, step // 2, step, step // 2]
        pixels = page.evaluate(
            "[...document.querySelectorAll('canvas')].map(c => [...c.getContext('2d').getImageData(9, 9, 1, 1).data])"
        )
        videos = [row.videos[name].path for row in rows for name in ("a", "b") if name in row.videos]
        expected = [read_frames(path)[frame][9, 9].tolist() for path, frame in zip(videos, shown(page), strict=True)]
        assert [pixel[:3] for pixel in pixels] == expected


def test_keys_step_jump_and_can_be_switched_off(open_page, page_file):
    page = opened(open_page, page_file, reduced_motion="reduce")
    page.locator("h1").click()
    for key, expected in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", 12), ("ArrowRight", 1)):
        page.keyboard.press(key)
        expect(page.locator("#shown")).to_have_text(f"{expected} of 12")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent").startswith(PROMPTS[0])
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("Space")
    page.get_by_label("Keys", exact=True).uncheck()
    page.locator("h1").click()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_the_difference_of_two_columns(open_page, page_file):
    page = opened(open_page, page_file, reduced_motion="reduce")
    page.locator("#difference").check()
    assert page.locator(".difference").count() == 2  # not for the prompt that one column lacks
    page.locator("#frame").fill("2")
    page.wait_for_function("[...document.querySelectorAll('.difference canvas')].every(c => c.dataset.frame === '1')")
    values = page.evaluate(
        "[...document.querySelectorAll('.row')].slice(0, 1).map(r => [...r.querySelectorAll('canvas')]"
        ".map(c => c.getContext('2d').getImageData(9, 9, 1, 1).data[0]))[0]"
    )
    first, second, difference = values
    assert difference == abs(first - second) > 10
    page.locator("#difference").uncheck()
    assert page.locator(".difference").count() == 0


def test_texts_metrics_images_and_gaps_are_shown_as_text(open_page, page_file):
    page = opened(open_page, page_file)
    assert page.locator("h1").inner_text() == "Two <b>columns</b>"
    assert page.locator("h2 i").count() == 0
    first = page.locator(".row").first
    expect(first.get_by_alt_text("Input image")).to_be_visible()
    assert "clip_score\n0.3123" in first.locator("dl").inner_text()
    assert page.get_by_text("no video").count() == 1
    assert page.locator("#settings mark").all_inner_texts() == ["ddim", "euler"]
    page.get_by_label("Find").fill("green")
    assert page.locator(".row:visible").count() == 1
    expect(page.locator("#status")).to_have_text("1 of 3 prompts")


def test_pictures_next_to_the_page_work_from_a_file(open_page, rows, tmp_path):
    write_comparison(rows, ["a", "b"], tmp_path, PageSettings(embed=False))
    page = opened(open_page, tmp_path / "index.html", reduced_motion="reduce")
    page.locator("#frame").fill("5")
    assert shown(page) == [2, 5, 2, 5, 2]
    page.locator("#difference").check()
    page.wait_for_function("document.querySelectorAll('.difference canvas[data-frame]').length === 2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_in_both_themes(open_page, page_file, scheme):
    page = opened(open_page, page_file, viewport={"width": 320, "height": 700}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, input:not([type=checkbox])')]"
        ".filter(e => e.getBoundingClientRect().height < 24).map(e => e.id)"
    )
    assert small == []
    paper, ink = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    values = [sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(","))) for colour in (paper, ink)]
    assert (values[0] > values[1]) == (scheme == "light")


def test_hundreds_of_prompts_load_only_what_is_seen(open_page, rows, tmp_path):
    many = [dataclasses.replace(row, prompt=f"{row.prompt} {number}") for number in range(60) for row in rows]
    write_comparison(many, ["a", "b"], tmp_path, PageSettings(embed=False))
    page = opened(open_page, tmp_path / "index.html", reduced_motion="reduce")
    page.wait_for_timeout(200)
    drawn = page.locator("canvas[data-frame]").count()
    assert 3 <= drawn < 60
    page.locator(".row").nth(150).scroll_into_view_if_needed()
    expect(page.locator(".row").nth(150).locator("canvas").first).to_have_attribute("data-frame", "0")
