#!/usr/bin/env bash
# Train the shipped miniature from scratch: autoencoder, CLIP encoders, judge, text to video, image to video, exam.
# To resume after an interruption, run the script again.
#
#   runs/tiny.sh [OUTPUT] [PROCESSES]
#   TOY=1 runs/tiny.sh [OUTPUT] [PROCESSES]     every command with two training steps, in a minute or two
#
# PROCESSES (1 or 2; default 2) train the video network in parallel with one thread each, which is faster on a CPU than
# one process with as many threads. On two cores the whole script takes some hours.
# OUTPUT defaults to outputs/tiny, with TOY to outputs/toy-tiny. ASSETS is the folder for the trained models; it defaults
# to the package's, with TOY to OUTPUT/assets.
set -euf -o pipefail # -f: no globbing of the * in settings

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
    # shellcheck disable=SC2086  # word splitting is intended
    videocrafter train "$@" $SETTINGS
}

together() {
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node "$PROCESSES" -m videocrafter.cli.main train "$@" $SETTINGS
}

# 1. The networks that stay frozen afterwards.
alone tiny-vae --output "$OUT/vae"
alone tiny-clip --output "$OUT/clip"

# 2. The judge of the exam, independent of the models that it judges.
alone tiny-judge --output "$OUT/judge"

# 3. Text to video: the stage "gate" on a small plain world, then the whole world, then full resolution.
#    Check gauge_left_right in $OUT/t2v/log.jsonl: if it does not rise in the gate, the later stages will fail too.
together tiny-t2v --output "$OUT/t2v" "${PARTS[@]}"

# 4. Image to video: align the projector with the text tokens, then train the paper's two phases.
together tiny-i2v --output "$OUT/i2v" "${PARTS[@]}" --set "init=$OUT/t2v/final"

# 5. Copy the models into the package in half precision, then run the exam.
python "$HERE/ship.py" --t2v "$OUT/t2v/final" --i2v "$OUT/i2v/final" --judge "$OUT/judge/final" --assets "$ASSETS"
# shellcheck disable=SC2086
videocrafter evaluate "$ASSETS/tiny-t2v" --i2v "$ASSETS/tiny-i2v" --judge "$ASSETS/judge" \
    --output "$OUT/exam" --overwrite $QUESTIONS
