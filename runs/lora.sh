#!/usr/bin/env bash
# Train a LoRA from a folder of clips: ten clips of night scenes teach the miniature their style.
#
#   runs/lora.sh [OUTPUT]
#   TOY=1 runs/lora.sh [OUTPUT]         two training steps, to check that everything works
#   CLIPS=folder INIT=t2v-512 runs/lora.sh [OUTPUT]    your own clips and another model (needs a GPU in practice)
#
# The miniature takes minutes on two cores. To resume after an interruption, run the script again.
set -euf -o pipefail # -f: no globbing of the * in settings

HERE=$(dirname "$0")
OUT=${1:-outputs/${TOY:+toy-}lora}
CLIPS=${CLIPS:-$OUT/clips}
INIT=${INIT:-tiny-t2v}
SETTINGS=""
OVERFIT_STEPS=100
if [[ $INIT == tiny-t2v ]]; then
    # A small model needs a higher learning rate than a large one and fits in memory without checkpointing.
    SETTINGS="--set stages.*.task.data.batch_size=4 --set stages.*.optimizer.lr=5e-4 --set stages.*.num_steps=300 --set stages.*.task.gradient_checkpointing=false"
fi
if [[ -n ${TOY:-} ]]; then
    OVERFIT_STEPS=2
    SETTINGS+=" --set stages.*.num_steps=2 --set stages.*.precision=fp32 --set stages.*.validate_every=0"
fi

# 1. Clips with captions: clip-0.mp4, clip-0.txt, and so on.
if [[ ! -d $CLIPS ]]; then
    python "$HERE/ten_clips.py" "$CLIPS"
fi

# 2. Check that the model learns: overfit one clip. The loss must fall and the sample must become the clip.
# shellcheck disable=SC2086  # word splitting is intended
videocrafter train overfit-one-clip --init "$INIT" --data "$CLIPS" --output "$OUT/overfit" $SETTINGS \
    --set "stages.*.num_steps=$OVERFIT_STEPS"

# 3. Train the LoRA.
# shellcheck disable=SC2086
videocrafter train lora --init "$INIT" --data "$CLIPS" --output "$OUT/run" $SETTINGS

# 4. Generate the same prompt and seed without and with the LoRA.
for name in plain styled; do
    lora=()
    if [[ $name == styled ]]; then lora=(--lora "$OUT/run/final"); fi
    videocrafter generate "a pumpkin bouncing on a snowy field" --model "$INIT" "${lora[@]}" --seed 3 --overwrite \
        --contact-sheet "$OUT/$name.png" -o "$OUT/$name.mp4"
done
