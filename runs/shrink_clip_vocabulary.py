"""Make `assets/clip_bpe/merges.txt.gz`: the part of OpenAI CLIP's merge table that CLIP uses.

    python runs/shrink_clip_vocabulary.py bpe_simple_vocab_16e6.txt.gz

The original holds 262,144 merges, of which CLIP's 49,408 tokens take the first 48,894: 256 bytes, the same 256
at the end of a word, the merges, and the two tokens for start and end. Running it again gives the same bytes.
"""

import argparse
import gzip
import hashlib
from pathlib import Path

NUM_TOKENS = 49408
NUM_MERGES = NUM_TOKENS - 2 * 256 - 2
ORIGINAL_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
TARGET = Path(__file__).parents[1] / "src" / "videocrafter" / "assets" / "clip_bpe" / "merges.txt.gz"


def shrink(original: bytes) -> bytes:
    """The used lines of the original file, both compressed; the first line of the original is a title."""
    lines = gzip.decompress(original).decode("utf-8").split("\n")[1 : 1 + NUM_MERGES]
    if len(lines) != NUM_MERGES or any(len(line.split(" ")) != 2 for line in lines):
        raise SystemExit(f"expected {NUM_MERGES} lines of two tokens after the title")
    # No time stamp and no file name, or the bytes would differ from run to run.
    return gzip.compress("\n".join([*lines, ""]).encode("utf-8"), compresslevel=9, mtime=0)


def main() -> None:
    """Check the original, shrink it and write the asset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path, help="bpe_simple_vocab_16e6.txt.gz of OpenAI CLIP")
    original = parser.parse_args().original.read_bytes()
    if hashlib.sha256(original).hexdigest() != ORIGINAL_SHA256:
        raise SystemExit("this is not the file that OpenAI CLIP publishes (its SHA-256 differs)")
    TARGET.write_bytes(shrink(original))
    print(f"{TARGET}: {NUM_MERGES} merges, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
