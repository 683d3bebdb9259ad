#!/usr/bin/env bash
# From raw films to shards to a LoRA: films of several shots are cut, filtered and sharded, and the miniature learns them.
#
#   runs/prepare.sh [OUTPUT]
#   TOY=1 runs/prepare.sh [OUTPUT]      two training steps, to check that everything works
#   FILMS=folder CAPTION="a video of my garden" runs/prepare.sh [OUTPUT]      your own videos
#
# To resume after an interruption, run the script again.
set -euf -o pipefail # -f: no globbing of the * in settings

HERE=$(dirname "$0")
OUT=$(realpath -m "${1:-outputs/${TOY:+toy-}prepare}")
CAPTION=${CAPTION:-shapes cross a coloured ground}
STEPS=${TOY:+2}
STEPS=${STEPS:-300}
SHOTS=${TOY:+4}
SHOTS=${SHOTS:-12}

# 1. Films: shots joined by cuts and fades, with bars, freezes and flashes, and a copy of the first film.
OWN=$OUT/films
if [[ -z ${FILMS:-} && ! -d $OWN ]]; then
    # Under another name first: an interrupted step is repeated.
    rm -rf "$OWN.part"
    (cd "$HERE/.." && python -m benchmarks.truth_films "$OWN.part" --films 2 --shots "$SHOTS")
    mv "$OWN.part" "$OWN"
fi
FILMS=${FILMS:-$OWN}

# 2. Look at what there is; nothing is written.
videocrafter prepare "$FILMS" "$OUT/prepared" --set "caption.text=$CAPTION" --set sources.min_side=128 --dry-run

# 3. Prepare. The report shows what each filter dropped.
videocrafter prepare "$FILMS" "$OUT/prepared" --set "caption.text=$CAPTION" --set sources.min_side=128

# 4. Train a LoRA on the shards.
videocrafter train lora --init tiny-t2v --data "$OUT/prepared/shards" --output "$OUT/lora" \
    --set stages.*.task.data.batch_size=4 --set stages.*.optimizer.lr=5e-4 --set "stages.*.num_steps=$STEPS" \
    --set stages.*.task.gradient_checkpointing=false

# 5. Generate with it.
videocrafter generate "a rocket flying up over a green meadow" --model tiny-t2v --lora "$OUT/lora/final" --seed 3 \
    --overwrite -o "$OUT/rocket.mp4"
