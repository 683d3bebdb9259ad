"""The studio in a real browser: make, reload, cancel, kill, drop, search, compare, on a desk and on a phone."""

import json

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

from playwright.sync_api import expect

from tests.browser.conftest import serious_violations
from tests.browser.studio_server import SECONDS, StudioServer, wait_for
from videocrafter.media.video_file import write_video
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio, StudioConfig

LONG = SECONDS * 1000
QUICK = {"preset": "draft", "num_inference_steps": 2, "num_frames": 4}
PAGES = ("", "queue", "gallery", "compare", "live", "train")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = StudioServer(tmp_path_factory.mktemp("studio")).start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path):
    """A server that the test may kill."""
    server = StudioServer(tmp_path / "data").start()
    yield server
    server.stop()


def until(page, expression):
    """Wait until an expression is true. Playwright's own way is forbidden by the page's policy."""
    wait_for(lambda: page.evaluate(expression))


def done(server, job):
    return wait_for(lambda: server.get(f"jobs/{job}") if server.get(f"jobs/{job}")["state"] == "done" else None)


@pytest.fixture(scope="module")
def video(server):
    """A video in the gallery."""
    job = server.post("jobs", {"prompt": "a cat bouncing on a green meadow", "seed": 3, **QUICK})["id"]
    return done(server, job)["videos"][0]


def test_make_watch_and_play(server, open_page):
    page = open_page(viewport={"width": 1200, "height": 900})
    page.goto(server.address)
    page.get_by_role("button", name="a rocket", exact=True).click()
    page.get_by_role("button", name="moving up", exact=True).click()
    expect(page.get_by_label("Prompt")).to_have_value("a rocket moving up")
    page.get_by_label("Seed").fill("7")
    # Nothing is read first: the button is in sight.
    expect(page.get_by_role("button", name="Make video")).to_be_in_viewport()
    page.get_by_role("button", name="Make video").click()
    preview = page.locator("#now img")
    preview.wait_for(timeout=LONG)
    card = page.get_by_role("button", name="Open: a rocket moving up")
    card.wait_for(timeout=LONG)
    card.click()
    player = page.locator("dialog video")
    player.wait_for()
    until(page, "document.querySelector('dialog video').currentTime > 0.2")
    expect(page.locator("dialog table")).to_contain_text("seed")


def test_the_queue_is_found_again_after_a_reload_and_in_a_new_tab(server, open_page):
    page = open_page()
    page.goto(server.address)
    page.get_by_label("Prompt").fill("a frog moving left in a forest")
    page.get_by_label("Frames").fill("8")
    page.get_by_text("More settings").click()
    page.get_by_label("Steps").fill("60")
    page.keyboard.press("Control+Enter")
    page.locator("#now").get_by_text("a frog moving left").wait_for(timeout=LONG)
    page.reload()
    # Job and form are both there again.
    page.locator("#now").get_by_text("a frog moving left").wait_for(timeout=LONG)
    expect(page.get_by_label("Prompt")).to_have_value("a frog moving left in a forest")
    page.close()
    other = open_page()
    other.goto(f"{server.address}/queue")
    row = other.locator("#active li", has_text="a frog moving left")
    expect(row).to_contain_text("running", timeout=LONG)
    row.get_by_role("button", name="Cancel").click()
    expect(other.locator("#finished li", has_text="a frog").first).to_contain_text("cancelled", timeout=LONG)
    assert server.get("videos?text=frog")["videos"] == []


def test_a_prompt_is_text_everywhere(server, open_page):
    prompt = "<img src=x onerror=\"document.title='broken'\"><b>bold</b> a cat"
    job = server.post("jobs", {"prompt": prompt, **QUICK})["id"]
    video = done(server, job)["videos"][0]
    page = open_page()
    for path in ("", "queue", "gallery", f"compare?ids={video},{video}"):
        page.goto(f"{server.address}/{path}")
        page.get_by_text("<b>bold</b> a cat").first.wait_for()
        assert page.locator("main b", has_text="bold").count() == 0
        assert page.title() != "broken"
    page.goto(f"{server.address}/gallery")
    page.get_by_role("button", name="Open: <img").first.click()
    page.locator("dialog").get_by_text("<b>bold</b>").first.wait_for()
    assert page.title() != "broken"


def test_our_file_gives_its_settings_back_when_it_is_dropped(server, video, open_page):
    page = open_page()
    page.goto(f"{server.address}/queue")
    page.evaluate(
        """async (address) => {
            const data = new DataTransfer();
            data.items.add(new File([await (await fetch(address)).blob()], "renamed.bin"));
            const settings = { dataTransfer: data, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent("drop", settings));
        }""",
        f"/api/v1/videos/{video}.mp4",
    )
    page.wait_for_url(f"{server.address}/", timeout=LONG)
    expect(page.get_by_label("Prompt")).to_have_value("a cat bouncing on a green meadow")
    expect(page.get_by_label("Seed")).to_have_value("3")
    expect(page.get_by_label("Frames")).to_have_value("4")


def test_settings_are_reused_and_a_video_is_the_input(server, video, open_page):
    page = open_page()
    page.goto(f"{server.address}/gallery")
    page.get_by_role("button", name="Open: a cat bouncing").first.click()
    page.get_by_role("button", name="Reuse without seed").click()
    expect(page.get_by_label("Prompt")).to_have_value("a cat bouncing on a green meadow")
    expect(page.get_by_label("Seed")).to_have_value("")
    page.goto(f"{server.address}/gallery")
    page.get_by_role("button", name="Open: a cat bouncing").first.click()
    page.get_by_role("button", name="Use as input").click()
    expect(page.get_by_label("Change a clip")).to_be_checked()
    page.get_by_label("Frames").fill("4")
    page.get_by_role("button", name="Make video").click()
    wait_for(lambda: server.get("jobs?state=done")["jobs"][0]["request"].get("video") == video)


def test_delete_can_be_undone(server, open_page):
    job = server.post("jobs", {"prompt": "a pig to delete", **QUICK})["id"]
    done(server, job)
    page = open_page()
    page.goto(f"{server.address}/gallery")
    card = page.get_by_role("button", name="Open: a pig to delete")
    card.focus()
    page.keyboard.press("Delete")
    expect(card).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(card).to_have_count(1)


def shown_frames(page):
    """Return, for 60 pictures of the screen in turn, the frame that each player shows."""
    return page.evaluate(
        """async () => {
            const seen = [];
            for (let index = 0; index < 60; index += 1) {
                await new Promise(requestAnimationFrame);
                seen.push([...document.querySelectorAll("#rows canvas")].map((one) => Number(one.dataset.frame)));
            }
            return seen;
        }"""
    )


def test_a_grid_from_the_gallery_plays_in_step_and_is_completed(server, open_page):
    asked = [("a boat to compare", 2), ("a boat to compare", 8), ("a kite to compare", 2)]
    jobs = [
        server.post("jobs", {"prompt": prompt, "seed": 3, **QUICK, "guidance_scale": scale})["id"]
        for prompt, scale in asked
    ]
    for job in jobs:
        done(server, job)
    page = open_page(viewport={"width": 1200, "height": 900})
    page.goto(f"{server.address}/gallery")
    page.get_by_label("Search", exact=True).fill("to compare")
    expect(page.locator(".card")).to_have_count(3, timeout=LONG)
    for index in range(3):
        page.locator(".card .pick").nth(index).click()
    page.get_by_role("link", name="Compare them").click()
    expect(page.locator("#rows canvas[data-frame]")).to_have_count(3, timeout=LONG)
    expect(page.locator("#settings mark")).to_have_text(["2", "8"])
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    seen = shown_frames(page)
    # One clock draws all players in one step of the browser: they never differ by a single frame.
    assert all(len(set(frames)) == 1 for frames in seen), seen
    until(page, "Number(document.querySelector('#rows canvas').dataset.frame) > 0")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Next frame").click()
    assert len(set(shown_frames(page)[-1])) == 1
    # The grid lacks one cell: it is made with the settings of its column and the prompt of its row.
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#rows canvas[data-frame]")).to_have_count(4, timeout=LONG)
    newest = server.get("videos?text=kite&limit=1")["videos"][0]["request"]
    assert (newest["prompt"], newest["seed"], newest["guidance_scale"]) == ("a kite to compare", 3, 8)


def test_a_grid_is_made_from_prompts_and_settings(server, open_page):
    page = open_page(viewport={"width": 1200, "height": 900})
    page.goto(f"{server.address}/compare")
    page.get_by_label("Prompts, one per line").fill("a moon in a grid\na sun in a grid\n\na sun in a grid")
    page.get_by_label("Quality", exact=True).uncheck()
    page.get_by_label("Guidance", exact=True).fill("2, x")
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_role("button", name="Make 4 videos").click()
    expect(page.locator("#grid-error")).to_contain_text("Write numbers")
    page.get_by_label("Guidance", exact=True).fill("2, 6")
    page.get_by_role("button", name="Make 4 videos").click()
    expect(page.locator("#rows canvas[data-frame]").first).to_be_attached(timeout=LONG)
    # The page shows them as they are finished.
    expect(page.locator("#rows canvas[data-frame]")).to_have_count(4, timeout=LONG)
    assert page.locator("#rows .row").count() == 2
    assert [video["request"]["seed"] for video in server.get("videos?text=grid")["videos"]] == [1] * 4


def type_quickly(page, text):
    """Type without a pause, however busy the machine is."""
    page.evaluate(
        """(text) => {
            const field = document.querySelector("#prompt");
            for (const letter of text) {
                field.value += letter;
                field.dispatchEvent(new Event("input", { bubbles: true }));
            }
        }""",
        text,
    )


def test_live_follows_the_prompt_and_the_last_one_wins(server, open_page):
    page = open_page()
    sent = []
    page.on("request", lambda request: sent.append(request.post_data) if request.method == "PUT" else None)
    page.goto(f"{server.address}/live")
    expect(page.get_by_label("Model")).not_to_have_value("")
    type_quickly(page, "a ghost spinning")
    type_quickly(page, " in outer space")
    expect(page.locator("#live-state")).to_have_text("“a ghost spinning in outer space”", timeout=LONG)
    expect(page.locator("#stage video")).to_have_count(1, timeout=LONG)
    # Typing asks for a video after a pause, not after each letter, and with the quickest preset.
    assert len(sent) <= 2
    assert json.loads(sent[-1])["preset"] == "fast"
    assert server.get("videos?text=ghost")["videos"] == []
    page.reload()
    expect(page.get_by_label("Prompt")).to_have_value("a ghost spinning in outer space")
    expect(page.locator("#stage video")).to_have_count(1, timeout=LONG)
    page.get_by_role("button", name="Make it properly").click()
    form = page.locator("#form")
    expect(form.get_by_label("Prompt")).to_have_value("a ghost spinning in outer space", timeout=LONG)


def test_live_gives_way_to_the_queue_and_comes_back(server, open_page):
    page = open_page()
    page.goto(f"{server.address}/live")
    expect(page.get_by_label("Model")).not_to_have_value("")
    server.post("queue/pause")
    jobs = [server.post("jobs", {"prompt": "a pear that waits", "seed": 1, **QUICK})["id"] for _ in range(2)]
    # A paused queue does not hold the page up; a running one does, until it is empty.
    page.get_by_label("Prompt").fill("a wizard moving right")
    expect(page.locator("#live-state")).to_have_text("“a wizard moving right”", timeout=LONG)
    server.post("queue/resume")
    page.get_by_label("Prompt").fill("a wizard moving left")
    expect(page.locator("#live-state")).to_have_text("“a wizard moving left”", timeout=LONG)
    assert [server.get(f"jobs/{job}")["state"] for job in jobs] == ["done", "done"]
    page.get_by_label("Prompt").fill("")
    expect(page.locator("#stage video")).to_have_count(0)
    expect(page.locator("#live-state")).to_contain_text("Type a prompt")


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_a_phone_and_have_names_for_everything(server, video, open_page, name):
    page = open_page(viewport={"width": 320, "height": 700})
    page.goto(f"{server.address}/{name}")
    page.get_by_role("heading", level=1).wait_for()
    until(page, "document.querySelector('nav a[aria-current]')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, a, input, select, textarea, video, img")]
            .filter((one) => !one.closest("[hidden]") && !one.getAttribute("aria-label") && !one.textContent.trim())
            .filter((one) => !one.labels?.length && one.alt === undefined).map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(server, video, open_page, name, theme):
    page = open_page(color_scheme=theme, viewport={"width": 1200, "height": 900}, bypass_csp=True)
    page.goto(f"{server.address}/{name}")
    until(page, "document.querySelector('nav a[aria-current]')")
    if name in ("", "gallery"):
        page.locator(".card").first.wait_for()
    assert serious_violations(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_grid_and_in_dialogs(server, video, open_page, theme):
    page = open_page(color_scheme=theme, viewport={"width": 1200, "height": 900}, bypass_csp=True)
    page.goto(f"{server.address}/compare?ids={video}")
    page.locator("#rows canvas[data-frame]").wait_for(timeout=LONG)
    page.locator("#builder summary").click()
    assert serious_violations(page) == []
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.locator("dialog[open]").wait_for()
    assert serious_violations(page) == []
    page.goto(f"{server.address}/gallery")
    page.locator(".card .open").first.click()
    page.locator("dialog[open] video").wait_for()
    assert serious_violations(page) == []


def test_a_gallery_of_a_thousand_is_walked_by_keyboard(tmp_path, open_page):
    data = tmp_path / "data"
    fill_gallery(data, 1000)
    server = StudioServer(data).start()
    try:
        page = open_page(viewport={"width": 1200, "height": 900})
        page.goto(f"{server.address}/gallery")
        page.locator(".card").first.wait_for()
        assert page.locator(".card").count() <= 120
        page.locator(".card .open").first.focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        assert page.evaluate("[...document.querySelectorAll('.card .open')].indexOf(document.activeElement)") == 5
        for _ in range(40):
            page.mouse.wheel(0, 20_000)
            if page.locator(".card").count() >= 300:
                break
            page.wait_for_timeout(100)
        assert page.locator(".card").count() >= 300
        page.get_by_label("Search", exact=True).fill("prompt 777")
        expect(page.locator(".card")).to_have_count(1, timeout=LONG)
        page.get_by_label("Search", exact=True).fill("")
        expect(page.locator(".card").nth(50)).to_be_attached(timeout=LONG)
    finally:
        server.stop()


def fill_gallery(data, count):
    """Add finished videos without making them."""
    studio = Studio(StudioConfig(data=data))
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    source = data / "videos" / f"{'0' * 32}.mp4"
    for number in range(count):
        job, _ = studio.jobs.add({"prompt": "x"}, most_queued=10**6)
        studio.jobs.claim("w", attempts=3)
        identity = f"{number:032x}"
        frames[:] = number % 250
        if number % 50 == 0:
            write_video(source, frames, 8, {"prompt": "x"}, overwrite=True)
        studio.folder.video(identity).write_bytes(source.read_bytes()) if number else None
        row = {
            "prompt": f"prompt {number}",
            "model": "tiny",
            "request": {},
            "recording": {},
            "width": 16,
            "height": 16,
        }
        row |= {"num_frames": 2, "playback_fps": 8.0, "num_bytes": 1, "seconds": 1.0, "workload": "x"}
        studio.videos.add(Video(id=identity, job=job.id, number=0, **row), "w")
        studio.jobs.finish(job.id, "w", "done")
        studio.jobs.remove(job.id)
    studio.database.close()


@pytest.mark.timeout(3600)
def test_twenty_jobs_survive_two_kills_and_the_page_follows(own_server, open_page):
    server = own_server
    page = open_page()
    page.goto(f"{server.address}/queue")
    jobs = [
        server.post("jobs", {"prompt": f"a star number {index}", "seed": index, **QUICK})["id"] for index in range(20)
    ]
    expect(page.locator("#active li")).to_have_count(20, timeout=LONG)
    wait_for(lambda: len(server.get("videos?limit=60")["videos"]) >= 3)
    server.kill_worker()
    wait_for(lambda: len(server.get("videos?limit=60")["videos"]) >= 8)
    server.kill()
    expect(page.locator("#banner")).to_contain_text("Nothing is lost", timeout=LONG)
    server.start()
    expect(page.locator("#banner")).to_be_hidden(timeout=LONG)
    wait_for(lambda: not server.get("jobs")["jobs"])
    finished = server.get("jobs?state=finished&limit=60")["jobs"]
    assert {job["id"]: job["state"] for job in finished} == dict.fromkeys(jobs, "done")
    videos = server.get("videos?limit=60")["videos"]
    assert sorted(video["request"]["seed"] for video in videos) == list(range(20))
    assert len(list((server.data / "videos").glob("*.mp4"))) == 20
    expect(page.locator("#finished li")).to_have_count(20, timeout=LONG)
    text = json.dumps([server.get(f"videos/{video['id']}/recording") for video in videos])
    assert str(server.data) not in text
