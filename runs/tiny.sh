#!/usr/bin/env bash
# Train the shipped miniature from scratch: autoencoder, CLIP encoders, judges, text to video, image to video, exam.
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

# 2. The judges of the exam, independent of the models that they judge.
alone tiny-judge --output "$OUT/judge"
alone tiny-second-judge --output "$OUT/second-judge" --set "init=$OUT/judge/final"

# 3. An image model, then images and videos jointly; from these, a student of four steps, and the paper's two phases of
#    image to video.
alone tiny-sd --output "$OUT/sd" "${PARTS[@]}" --set "stages.*.task.judge=$OUT/judge/final"
together tiny-t2v --output "$OUT/t2v" "${PARTS[@]}" --set "init=$OUT/sd/final"
together tiny-distill --stages consistency --output "$OUT/fast" "${PARTS[@]}" --set "init=$OUT/t2v/final"
together tiny-i2v --output "$OUT/i2v" "${PARTS[@]}" --set "init=$OUT/t2v/final"

# 4. Copy the models into the package in half precision, then run the exam.
python "$HERE/ship.py" --t2v "$OUT/t2v/final" --fast "$OUT/fast/final" --i2v "$OUT/i2v/final" \
    --judge "$OUT/judge/final" --assets "$ASSETS"
# shellcheck disable=SC2086
videocrafter evaluate "$ASSETS/tiny-t2v-fast" --judge "$ASSETS/judge" --second-judge "$OUT/second-judge/final" \
    --output "$OUT/exam-fast" --overwrite $QUESTIONS
# shellcheck disable=SC2086
videocrafter evaluate "$ASSETS/tiny-t2v" --i2v "$ASSETS/tiny-i2v" --judge "$ASSETS/judge" \
    --second-judge "$OUT/second-judge/final" --output "$OUT/exam" --overwrite $QUESTIONS
