#!/usr/bin/env bash
# Train image to video as in the paper (section 3.2), from a trained text-to-video model at 512 x 320. Phase 1 trains the
# projector and the new W'k, W'v; phase 2 freezes both mappings and trains the video model.
#
#   START=outputs/t2v/t2v-512/final TOWER=path/to/CLIP-ViT-H-14 VIDEOS="webvid:/data/train.csv?root=/data" runs/i2v.sh [OUTPUT]
#   TOY=1 runs/i2v.sh [OUTPUT]          both phases in miniature, from the shipped models
#
# TOWER is a folder with CLIP's image encoder in transformers format; the paper uses OpenCLIP ViT-H/14. LAUNCH is the
# same as in t2v.sh.
set -euf -o pipefail # -f: no globbing of the * in settings

HERE=$(dirname "$0")
OUT=${1:-outputs/${TOY:+toy-}i2v}
LAUNCH=${LAUNCH:-}
SETTINGS=""
if [[ -n ${TOY:-} ]]; then
    START=tiny-t2v
    TOWER=$HERE/../src/videocrafter/assets/models/tiny-i2v
    VIDEOS="sprites:?num_clips=64&num_frames=8"
    for setting in num_steps=2 precision=fp32 validate_every=0 sample_every=0 optimizer.accumulate=2 ema_decay=0.5 \
        task.data.cutting.height=64 task.data.cutting.width=64 task.data.cutting.sampling.lengths=8 \
        task.data.batch_size=2 task.data.num_workers=0; do
        SETTINGS+=" --set stages.*.$setting"
    done
else
    : "${START:?set START to the folder of a text-to-video model at 512 x 320}"
    : "${TOWER:?set TOWER to a folder with the image encoder of CLIP}"
    : "${VIDEOS:?set VIDEOS to a source of captioned videos (docs/data.md)}"
fi

# Videos only: a still image conditioned on itself teaches the image branch nothing.
# shellcheck disable=SC2086  # word splitting is intended
$LAUNCH videocrafter train i2v-512 --init "$START" --data "$VIDEOS" --output "$OUT/run" \
    --set 'stages.*.task.image_tower='"$TOWER" --set 'stages.*.task.data.image_share=none' $SETTINGS

videocrafter generate "it moves to the left" --image "$HERE/../examples/ladybug.png" --model "$OUT/run/final" \
    --overwrite -o "$OUT/ladybug.mp4"
