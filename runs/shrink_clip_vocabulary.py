"""Write `assets/clip_bpe/merges.txt.gz`, the part of OpenAI CLIP's merge table that CLIP uses.

    python runs/shrink_clip_vocabulary.py bpe_simple_vocab_16e6.txt.gz

Of the original's 262,144 merges, CLIP uses the first 48,894. Its 49,408 tokens are 256 bytes, the same 256 at the end
of a word, the merges, and a start and an end token. The output is reproducible byte for byte.
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
    """Return the used lines of the original; both are compressed. The original's first line is a title."""
    lines = gzip.decompress(original).decode("utf-8").split("\n")[1 : 1 + NUM_MERGES]
    if len(lines) != NUM_MERGES or any(len(line.split(" ")) != 2 for line in lines):
        raise SystemExit(f"expected {NUM_MERGES} lines of two tokens after the title")
    # Without time stamp and file name, so that the bytes are the same in every run.
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
