"""The documents' pictures of pages, with videos of the shipped model.

They are made only if VIDEOCRAFTER_SCREENSHOTS names a folder, because generating takes minutes.
"""

import os
import random
import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.browser.studio_server import SECONDS, StudioServer, wait_for
from tests.command_line import call
from tests.tiny_studies import answer_all, expected_choice
from videocrafter.evaluation.study.server import study_app

FOLDER = os.environ.get("VIDEOCRAFTER_SCREENSHOTS")
PROMPTS = (
    "a rocket flying up over a green meadow",
    "a penguin moving left quickly on a snowy field",
    "an octopus is bouncing on a sandy beach",
)

MORE_PROMPTS = (
    "a rocket moving up in outer space",
    "a butterfly moving right over a green meadow",
    "a pumpkin spinning on a sandy beach",
    "a panda bouncing on a snowy field",
    "a frog growing in a forest",
    "a star moving down and left in outer space",
)

pytestmark = pytest.mark.skipif(FOLDER is None, reason="VIDEOCRAFTER_SCREENSHOTS names no folder for the pictures")


def run(*arguments: object) -> None:
    result = call(arguments)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    columns = ["25 steps=tiny-t2v", "4 steps=tiny-t2v-fast"]
    run("compare", *columns, "--prompts", folder / "prompts.txt", "--seed", 1, "-o", folder / "out")
    return folder / "out"


def test_comparison(open_page, compared):
    page = open_page(viewport={"width": 960, "height": 960}, reduced_motion="reduce")
    page.goto((compared / "index.html").as_uri())
    page.locator("#size").select_option("220")
    page.locator("#difference").check()
    page.locator("#frame").fill("5")
    page.wait_for_function("document.querySelectorAll('canvas[data-frame=\"5\"]').length >= 6")
    page.screenshot(path=str(Path(FOLDER) / "compare_page.png"))
    shutil.copy(compared / "sheet.png", Path(FOLDER) / "compare_sheet.png")


def test_study(open_page, compared, tmp_path):
    folders = [compared / "videos" / name for name in ("25 steps", "4 steps")]
    run(
        "study",
        "new",
        *folders,
        "-o",
        tmp_path / "study",
        "--votes",
        20,
        "--training",
        0,
        "--title",
        "Moving pictures",
    )
    with serving(study_app(tmp_path / "study")) as address:
        page = open_page(viewport={"width": 760, "height": 900})
        page.goto(address)
        page.get_by_label("I have read this").check()
        page.get_by_role("button", name="Start").click()
        page.locator("#aspects input:enabled").first.wait_for()
        page.keyboard.press("1")
        page.keyboard.press("2")
        page.screenshot(path=str(Path(FOLDER) / "study_page.png"), full_page=True)
    rng = random.Random(0)
    shares = {"visual_quality": 0.85, "text_alignment": 0.7, "motion_quality": 0.55, "temporal_consistency": 0.75}

    def decide(design, task, aspect):
        if task.role == "vote" and rng.random() < 0.2:
            return "equal"
        winner = 0 if task.role != "vote" or rng.random() < shares[aspect] else 1
        return expected_choice(design, task.item, task.swapped, winner)

    answer_all(tmp_path / "study", decide, raters=12)
    run("study", "report", tmp_path / "study", "--draws", 200)
    page = open_page(viewport={"width": 900, "height": 400})
    page.goto((tmp_path / "study" / "report" / "preferences.svg").as_uri())
    page.locator("svg").screenshot(path=str(Path(FOLDER) / "study_report.png"))


def test_studio(open_page, tmp_path):
    long_ms = 1000 * SECONDS

    def save(page, name):
        page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=str(Path(FOLDER) / f"studio-{name}.png"))

    server = StudioServer(tmp_path / "data").start()
    try:
        page = open_page(viewport={"width": 1200, "height": 900})
        for seed, prompt in enumerate((*PROMPTS, *MORE_PROMPTS)):
            server.post("jobs", {"prompt": prompt, "seed": seed + 1, "preset": "fast"})
        wait_for(lambda: len(server.get("videos")["videos"]) >= 4)
        page.goto(f"{server.address}/queue")
        page.locator("#active img.thumb").first.wait_for(timeout=long_ms)
        save(page, "queue")
        page.goto(server.address)
        page.get_by_label("Prompt").fill("a rocket moving up in outer space")
        page.locator("#now img.picture:visible").first.wait_for(timeout=long_ms)
        page.wait_for_timeout(1500)  # the estimate
        save(page, "make")
        wait_for(lambda: not server.get("jobs")["jobs"])
        page.goto(f"{server.address}/gallery")
        expect(page.locator(".card")).to_have_count(9, timeout=long_ms)
        page.wait_for_timeout(1000)
        save(page, "gallery")
        page.goto(f"{server.address}/compare")
        page.get_by_label("Prompts, one per line").fill("\n".join(MORE_PROMPTS[:2]))
        page.get_by_role("button", name="Make 4 videos").click()
        # Rows below the window would not be drawn.
        expect(page.locator("#rows canvas[data-frame]")).to_have_count(4, timeout=long_ms)
        save(page, "compare")
        page.goto(f"{server.address}/live")
        page.get_by_label("Prompt").fill("a ghost spinning in outer space")
        page.locator("#stage video").wait_for(timeout=long_ms)
        save(page, "live")
    finally:
        server.stop()
