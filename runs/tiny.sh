#!/usr/bin/env bash
# The whole story of the shipped miniature, from nothing: autoencoder, CLIP towers, judge, text to video, image to
# video, exam. Every command can be interrupted and repeated: it goes on where it stopped.
#
#   runs/tiny.sh [OUTPUT] [PROCESSES]
#
# PROCESSES (default 2) share the video network's training steps, one thread each; that is faster on a CPU than one
# process with as many threads. On two cores the story takes about two hours.
set -euo pipefail

OUT=${1:-outputs/tiny}
PROCESSES=${2:-2}
PARTS=(--set "stages.*.task.autoencoder=$OUT/vae/final" --set "stages.*.task.towers=$OUT/clip/final")

together() {
    OMP_NUM_THREADS=1 torchrun --nproc_per_node "$PROCESSES" -m videocrafter.cli.main train "$@"
}

# 1. The parts that stay frozen afterwards.
videocrafter train tiny-vae --output "$OUT/vae"
videocrafter train tiny-clip --output "$OUT/clip"

# 2. The judge of the exam, which knows nothing of the models it judges.
videocrafter train tiny-judge --output "$OUT/judge"

# 3. Text to video: a small plain world (the gate), the whole world, then full resolution.
#    Look at the gauges in $OUT/t2v/log.jsonl: gauge_left_right must rise in the gate, or nothing bigger will.
together tiny-t2v --output "$OUT/t2v" "${PARTS[@]}"

# 4. Image to video, in the paper's two phases.
together tiny-i2v --output "$OUT/i2v" "${PARTS[@]}" --set "init=$OUT/t2v/final"

# 5. Half precision, into the package; then the exam.
python "$(dirname "$0")/ship.py" --t2v "$OUT/t2v/final" --i2v "$OUT/i2v/final" --judge "$OUT/judge/final"
videocrafter evaluate tiny --output "$OUT/exam" --overwrite
