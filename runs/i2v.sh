#!/usr/bin/env bash
# Image to video as in the paper (section 3.2), from a finished text-to-video model of 512 x 320: first the projector
# and the new W'k, W'v learn; then both mappings are frozen and the video model learns.
#
#   START=outputs/t2v/t2v-512/final TOWER=path/to/CLIP-ViT-H-14 VIDEOS="webvid:/data/train.csv?root=/data" runs/i2v.sh [OUTPUT]
#   TOY=1 runs/i2v.sh [OUTPUT]          both phases in miniature, from the models that the package brings
#
# TOWER is CLIP's image tower as transformers stores it: the paper's is OpenCLIP ViT-H/14. LAUNCH as in t2v.sh.
set -euf -o pipefail # f: no file names for the stars of settings

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
    : "${START:?give START, the folder of a text-to-video model of 512 x 320}"
    : "${TOWER:?give TOWER, a folder with the image tower of CLIP}"
    : "${VIDEOS:?give VIDEOS, a source of captioned videos (docs/data.md)}"
fi

# Videos alone: an image says all about itself already, so there is nothing for the image branch to learn from one.
# shellcheck disable=SC2086  # words on purpose
$LAUNCH videocrafter train i2v-512 --init "$START" --data "$VIDEOS" --output "$OUT/run" \
    --set 'stages.*.task.image_tower='"$TOWER" --set 'stages.*.task.data.image_share=none' $SETTINGS

videocrafter generate "it moves to the left" --image "$HERE/../examples/butterfly.png" --model "$OUT/run/final" \
    --overwrite -o "$OUT/butterfly.mp4"
