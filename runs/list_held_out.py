"""Write the held-out combinations of subject, motion and scene to src/videocrafter/assets/sprites/held_out.txt.

One combination per line, separated by " | ". Run it after adding a subject, a motion or a scene to the sprite world:

    python runs/list_held_out.py
"""

from __future__ import annotations

from pathlib import Path

from videocrafter.data.sprite_world.world import held_out_combinations


def main() -> None:
    """Write the list."""
    path = Path(__file__).parents[1] / "src" / "videocrafter" / "assets" / "sprites" / "held_out.txt"
    lines = [" | ".join(combination) for combination in held_out_combinations()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {len(lines)} combinations to {path}")


if __name__ == "__main__":
    main()
