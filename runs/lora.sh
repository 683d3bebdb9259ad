#!/usr/bin/env bash
# A LoRA from nothing but a folder of clips: ten clips by night teach the miniature their look.
#
#   runs/lora.sh [OUTPUT]
#   TOY=1 runs/lora.sh [OUTPUT]         two steps, to see that everything works here
#   CLIPS=folder INIT=t2v-512 runs/lora.sh [OUTPUT]    your clips, another model (a GPU is wise)
#
# Minutes on two cores for the miniature. Every command can be interrupted and repeated.
set -euf -o pipefail # f: no file names for the stars of settings

HERE=$(dirname "$0")
OUT=${1:-outputs/${TOY:+toy-}lora}
CLIPS=${CLIPS:-$OUT/clips}
INIT=${INIT:-tiny-t2v}
SETTINGS=""
OVERFIT_STEPS=100
if [[ $INIT == tiny-t2v ]]; then
    # A small model takes, and needs, a higher rate than a large one, and has memory to spare.
    SETTINGS="--set stages.*.task.data.batch_size=4 --set stages.*.optimizer.lr=5e-4 --set stages.*.num_steps=300 --set stages.*.task.gradient_checkpointing=false"
fi
if [[ -n ${TOY:-} ]]; then
    OVERFIT_STEPS=2
    SETTINGS+=" --set stages.*.num_steps=2 --set stages.*.precision=fp32 --set stages.*.validate_every=0"
fi

# 1. Clips with captions: clip-0.mp4 beside clip-0.txt, and so on.
if [[ ! -d $CLIPS ]]; then
    python "$HERE/ten_clips.py" "$CLIPS"
fi

# 2. Does it learn at all? One clip by heart; its loss must fall, and the sample become the clip.
# shellcheck disable=SC2086  # words on purpose
videocrafter train overfit-one-clip --init "$INIT" --data "$CLIPS" --output "$OUT/overfit" $SETTINGS \
    --set "stages.*.num_steps=$OVERFIT_STEPS"

# 3. The LoRA.
# shellcheck disable=SC2086
videocrafter train lora --init "$INIT" --data "$CLIPS" --output "$OUT/run" $SETTINGS

# 4. The same prompt and seed, without it and with it.
for name in plain styled; do
    lora=()
    if [[ $name == styled ]]; then lora=(--lora "$OUT/run/final"); fi
    videocrafter generate "a pumpkin bouncing on a snowy field" --model "$INIT" "${lora[@]}" --seed 3 --overwrite \
        --contact-sheet "$OUT/$name.png" -o "$OUT/$name.mp4"
done
