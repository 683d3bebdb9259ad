import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.media.caption import caption_font, fit_caption


def test_a_caption_that_is_too_long_keeps_as_much_as_fits():
    caption = "a small fox jumps over a lazy dog " * 5
    for width in (60, 200, 500):
        fitting = fit_caption(caption, width)
        kept = fitting.removesuffix("…")
        assert caption.startswith(kept)
        assert fitting != kept
        assert caption_font().getlength(fitting) <= width < caption_font().getlength(f"{caption[: len(kept) + 2]}…")
    assert fit_caption("a fox", 200) == "a fox"
    assert fit_caption("a fox", 1) == "…"


@pytest.mark.parametrize(
    "text", ["Kürbis, žluťoučký kůň", "ракета над лесом", "Πύραυλος", "שָׁלוֹם", "صاروخ يطير", "½ ≤ 1 → “∞”…"]
)
def test_the_bundled_font_draws_most_alphabets(text):
    assert fit_caption(text, 1000) == text


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("一只猫 in a forest", "[3 CJK characters] in a forest"),
        ("हिन्दी", "[6 Devanagari characters]"),
        ("a 🚀 flies", "a [1 emoji character] flies"),
        ("👩\u200d🚀", "[2 emoji characters]"),
        ("a\x1b[0m\x00 cat\n\tand", "a[0m cat and"),
        ("\udcff", "?"),
    ],
)
def test_characters_that_the_font_lacks_are_described(text, drawn):
    assert fit_caption(text, 1000) == drawn


@given(text=st.text(max_size=100), width=st.integers(20, 400))
def test_any_text_fits(text, width):
    assert caption_font().getlength(fit_caption(text, width)) <= width
