import re

from videocrafter.evaluation.report_page import report_page

SCORE = {
    "value": 0.25,
    "low": 0.2,
    "high": 0.3,
    "num_prompts": 7,
    "num_videos": 14,
    "aspect": "visual_quality",
    "better": "higher",
    "summary": "meaning <b>",
    "version": 1,
}
REPORT = {
    "comparison": {"sha256": "def"},
    "protocol": {"name": "standard", "version": 1, "sha256": "abc"},
    "videos": {"count": 14, "prompts": 7},
    "scores": {
        "sharpness": SCORE,
        "clip_score": SCORE | {"aspect": "text_video_alignment", "low": None, "high": None},
    },
    "totals": {"visual_quality": None},
    "normalised": {},
    "missing": [
        {
            "metric": "fvd_i3d_kernel",
            "summary": "FVD",
            "needs": [{"file": "i3d.pt", "sha256": "ff", "licence": "MIT"}],
        }
    ],
    "not_measured": {"dis_flow": {"one frame": 2}},
    "problems": [{"kind": "no_video", "name": "x", "message": "prompt <script>alert(1)</script> has no video"}],
    "warnings": ["the videos have 2 different sizes"],
    "networks": {"clip": "cc"},
    "versions": {"torch": "2"},
    "differences": {"sharpness": {"value": 0.1, "low": -0.1, "high": 0.3, "verdict": "not distinguishable"}},
}
VIDEOS = [{"name": "a.mp4", "prompt": "<i>", "seed": None, "values": {"sharpness": 0.25}}]


def test_the_page_shows_everything_and_depends_on_nothing():
    page = report_page(REPORT, VIDEOS)
    for text in (
        "0.2 to 0.3",
        "not distinguishable",
        "i3d.pt",
        "SHA-256 ff",
        "2 videos: one frame",
        "the videos have 2 different sizes",
        "a score is missing",
        "hash <code>abc</code>",
    ):
        assert text in page, text
    assert not re.search(r"(src|href)=|https?:|@import|<script", page)
    assert "&lt;script&gt;" in page
    assert "&lt;i&gt;" in page
    assert "meaning &lt;b&gt;" in page
