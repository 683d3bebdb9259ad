#!/usr/bin/env bash
# The whole story of the shipped miniature, from nothing: autoencoder, CLIP towers, judge, text to video, image to
# video, exam. Every command can be interrupted and repeated: it goes on where it stopped.
#
#   runs/tiny.sh [OUTPUT] [PROCESSES]
#   TOY=1 runs/tiny.sh [OUTPUT] [PROCESSES]     all of it in a minute or two, with models that learn nothing
#
# PROCESSES (1 or 2, the default) share the video network's training steps, one thread each; that is faster on a CPU
# than one process with as many threads. On two cores the story takes some hours.
# OUTPUT is outputs/tiny, for a toy outputs/toy-tiny. ASSETS is the folder that the finished models go to: the
# package's, for a toy OUTPUT/assets.
set -euf -o pipefail # f: no file names for the stars of settings

HERE=$(dirname "$0")
OUT=${1:-outputs/${TOY:+toy-}tiny}
PROCESSES=${2:-2}
SETTINGS=""
QUESTIONS=""
if [[ -n ${TOY:-} ]]; then
    ASSETS=${ASSETS:-$OUT/assets}
    for setting in num_steps=2 precision=fp32 validate_every=0 sample_every=0; do
        SETTINGS+=" --set stages.*.$setting"
    done
    QUESTIONS="--quick --prompts 2 --steps 1"
fi
ASSETS=${ASSETS:-$HERE/../src/videocrafter/assets/models}
PARTS=(--set "stages.*.task.autoencoder=$OUT/vae/final" --set "stages.*.task.towers=$OUT/clip/final")

alone() {
    # shellcheck disable=SC2086  # words on purpose
    videocrafter train "$@" $SETTINGS
}

together() {
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node "$PROCESSES" -m videocrafter.cli.main train "$@" $SETTINGS
}

# 1. The parts that stay frozen afterwards.
alone tiny-vae --output "$OUT/vae"
alone tiny-clip --output "$OUT/clip"

# 2. The judge of the exam, which knows nothing of the models it judges.
alone tiny-judge --output "$OUT/judge"

# 3. Text to video: a small plain world (the gate), the whole world, then full resolution.
#    Look at the gauges in $OUT/t2v/log.jsonl: gauge_left_right must rise in the gate, or nothing bigger will.
together tiny-t2v --output "$OUT/t2v" "${PARTS[@]}"

# 4. Image to video: the projector learns the language of the text, then the paper's two phases.
together tiny-i2v --output "$OUT/i2v" "${PARTS[@]}" --set "init=$OUT/t2v/final"

# 5. Half precision, into the package; then the exam.
python "$HERE/ship.py" --t2v "$OUT/t2v/final" --i2v "$OUT/i2v/final" --judge "$OUT/judge/final" --assets "$ASSETS"
# shellcheck disable=SC2086
videocrafter evaluate "$ASSETS/tiny-t2v" --i2v "$ASSETS/tiny-i2v" --judge "$ASSETS/judge" \
    --output "$OUT/exam" --overwrite $QUESTIONS
