#!/usr/bin/env bash
# Train the shipped miniatures from scratch: autoencoders, CLIP encoders, judges, text to video, image to video, exams.
# To resume after an interruption, run the script again.
#
#   runs/tiny.sh [OUTPUT] [PROCESSES]
#   TOY=1 runs/tiny.sh [OUTPUT] [PROCESSES]     every command with two training steps, in a few minutes
#
# PROCESSES (1 or 2; default 2) train the video networks in parallel with one thread each, which is faster on a CPU than
# one process with as many threads. On two cores the whole script takes a day or two.
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
TOWERS=(--set "stages.*.task.towers=$OUT/clip/final")
PARTS=(--set "stages.*.task.autoencoder=$OUT/vae/final" "${TOWERS[@]}")
PARTS_128=(--set "stages.*.task.autoencoder=$OUT/vae-128/final" "${TOWERS[@]}")

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
alone tiny-vae-128 --output "$OUT/vae-128"
alone tiny-clip --output "$OUT/clip"

# 2. The judges of the exams, independent of the models that they judge.
alone tiny-judge --output "$OUT/judge"
alone tiny-judge-128 --output "$OUT/judge-128" --set "init=$OUT/judge/final"
alone tiny-judge-shape --output "$OUT/judge-shape" --set "init=$OUT/judge/final"

# 3. Text to video: the stage "gate" on a small plain world, then the whole world, then full resolution.
#    Check gauge_left_right in $OUT/t2v/log.jsonl: if it does not rise in the gate, the later stages will fail too.
together tiny-t2v --output "$OUT/t2v" "${PARTS[@]}"

# 4. The larger miniature: an image model, then images and videos jointly, then the paper's two phases of image to video.
alone tiny-sd --output "$OUT/sd" "${PARTS_128[@]}"
together tiny-t2v-128 --output "$OUT/t2v-128" "${PARTS_128[@]}" --set "init=$OUT/sd/final"
together tiny-i2v-128 --output "$OUT/i2v-128" "${PARTS_128[@]}" --set "init=$OUT/t2v-128/final"

# 5. Copy the models into the package in half precision, then run the exams.
python "$HERE/ship.py" --t2v "$OUT/t2v/final" --t2v-128 "$OUT/t2v-128/final" --i2v-128 "$OUT/i2v-128/final" \
    --judge "$OUT/judge/final" --assets "$ASSETS"
# shellcheck disable=SC2086
videocrafter evaluate "$ASSETS/tiny-t2v" --judge "$ASSETS/judge" --output "$OUT/exam" --overwrite $QUESTIONS
# shellcheck disable=SC2086
videocrafter evaluate "$ASSETS/tiny-t2v-128" --i2v "$ASSETS/tiny-i2v-128" --judge "$OUT/judge-128/final" \
    --second-judge "$OUT/judge-shape/final" --output "$OUT/exam-128" --overwrite $QUESTIONS
