#!/usr/bin/env bash
# Train text to video as in the paper (section 3.1): from Stable Diffusion 2.1 through 256 x 256, 512 x 320, 1024 x 576.
#
#   SD=path/to/stable-diffusion-2-1-base VIDEOS="webvid:/data/train.csv?root=/data" IMAGES="webdataset:/laion/*.tar?caption=top_caption" \
#       runs/t2v.sh [OUTPUT]
#   TOY=1 runs/t2v.sh [OUTPUT]          all stages in miniature, from the shipped model
#
# LAUNCH is put in front of every training command, such as LAUNCH="accelerate launch --no_python --multi_gpu". On eight
# 80 GB GPUs the first stage alone takes weeks; see `videocrafter plan t2v-256 --device 80GB --gpus 8`.
# To resume after an interruption, run the script again.
set -euf -o pipefail # -f: no globbing of the * in settings

OUT=${1:-outputs/${TOY:+toy-}t2v}
LAUNCH=${LAUNCH:-}
SETTINGS=""
if [[ -n ${TOY:-} ]]; then
    START=tiny-t2v
    VIDEOS="sprites:?num_clips=64&num_frames=8"
    IMAGES="sprites:?num_clips=64&num_frames=8&kind=image"
    for setting in num_steps=2 precision=fp32 validate_every=0 sample_every=0 optimizer.accumulate=2 ema_decay=0.5 \
        task.data.cutting.height=32 task.data.cutting.width=32 task.data.cutting.sampling.lengths=8 \
        task.data.batch_size=2 task.data.image_batch_size=4 task.data.image_share=0.5 task.data.num_workers=0; do
        SETTINGS+=" --set stages.*.$setting"
    done
    SETTINGS+=" --set stages.*.task.signal_scale=none" # the miniature has its own schedule
else
    START=$OUT/start
    : "${SD:?set SD to a folder of Stable Diffusion 2.1-base in diffusers format}"
    : "${VIDEOS:?set VIDEOS to a source of captioned videos (docs/data.md)}"
    : "${IMAGES:?set IMAGES to a source of captioned images (docs/data.md)}"
    # 1. Initialise a video network that starts by generating each frame as the image model does.
    if [[ ! -d $START ]]; then videocrafter init --from "$SD" --preset t2v-256 "$START"; fi
fi

# 2. Train the stages, each from the one before.
for recipe in t2v-256 t2v-512 t2v-1024; do
    # shellcheck disable=SC2086  # word splitting is intended
    $LAUNCH videocrafter train $recipe --init "$START" --data "$VIDEOS" --data "$IMAGES" --output "$OUT/$recipe" $SETTINGS
    START=$OUT/$recipe/final
done

videocrafter generate "a boat on a lake at sunset" --model "$START" --overwrite -o "$OUT/boat.mp4"
