"""Draw the sprite world's images from the Noto Color Emoji font.

For maintainers; the images are part of the package. The font is in Debian's package `fonts-noto-color-emoji` and in
the releases of the Noto Emoji project:

    python runs/draw_sprites.py /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf

Each image is the emoji at the font's only size, cropped, centred in a square with a margin of 4 % of its longer side
on each side, and scaled down to 96 x 96 pixels with transparency.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

# The font has bitmaps of this size only.
FONT_SIZE = 109
SPRITE_SIZE = 96
MARGIN = 0.04
EMOJI = {
    "rocket": "\N{ROCKET}",
    "cat": "\N{CAT FACE}",
    "apple": "\N{RED APPLE}",
    "frog": "\N{FROG FACE}",
    "penguin": "\N{PENGUIN}",
    "banana": "\N{BANANA}",
    "airplane": "\N{AIRPLANE}",
    "eggplant": "\N{AUBERGINE}",
    "panda": "\N{PANDA FACE}",
    "pumpkin": "\N{JACK-O-LANTERN}",
    "octopus": "\N{OCTOPUS}",
    "robot": "\N{ROBOT FACE}",
    "car": "\N{AUTOMOBILE}",
    "star": "\N{WHITE MEDIUM STAR}",
    "pig": "\N{PIG FACE}",
    "butterfly": "\N{BUTTERFLY}",
    "mushroom": "\N{MUSHROOM}",
    "cactus": "\N{CACTUS}",
    "ghost": "\N{GHOST}",
    "umbrella": "\N{UMBRELLA}",
    "rainbow": "\N{RAINBOW}",
    "carrot": "\N{CARROT}",
    "ladybug": "\N{LADY BEETLE}",
    "watermelon": "\N{WATERMELON}",
}


def draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Return one emoji as a square RGBA image of SPRITE_SIZE pixels."""
    canvas = Image.new("RGBA", (2 * FONT_SIZE, 2 * FONT_SIZE), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((FONT_SIZE // 4, FONT_SIZE // 4), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font has no image for U+{ord(character):X}; use NotoColorEmoji.ttf")
    content = canvas.crop(box)
    side = round(max(content.size) * (1 + 2 * MARGIN))
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(content, ((side - content.width) // 2, (side - content.height) // 2))
    # Scale premultiplied colours ("RGBa"), so that the black of transparent pixels does not darken the edges.
    small = square.convert("RGBa").resize((SPRITE_SIZE, SPRITE_SIZE), Image.Resampling.LANCZOS)
    return small.convert("RGBA")


def main() -> None:
    """Write an image of every emoji."""
    default_output = Path(__file__).parents[1] / "src" / "videocrafter" / "assets" / "sprites"
    parser = argparse.ArgumentParser(description="Draw the sprite world's images from an emoji font.")
    parser.add_argument("font", type=Path, help="path of NotoColorEmoji.ttf")
    parser.add_argument("--output", type=Path, default=default_output, help="folder to write the PNG files to")
    arguments = parser.parse_args()
    font = ImageFont.truetype(str(arguments.font), FONT_SIZE)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, character in EMOJI.items():
        draw(character, font).save(arguments.output / f"{name}.png", optimize=True)
    print(f"wrote {len(EMOJI)} sprites to {arguments.output}")


if __name__ == "__main__":
    main()
