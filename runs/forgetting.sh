#!/usr/bin/env bash
# Does training on images as well keep what only images show? (Paper, section 3.1: joint training.) Two runs start from the
# same image model and see the same number of clips, none of which shows six of the subjects. In one run, two fifths of the
# steps are images of all subjects. Then a judge names the subject of videos of the six, and of the others.
#
#   runs/forgetting.sh STILLS [OUTPUT] [SETTING]...
#
# STILLS is the finished folder of `videocrafter train tiny-sd`. OUTPUT defaults to outputs/forgetting. Further arguments go to both
# trainings. CLIPS is the number of steps with clips, PROMPTS that of the videos of each group.
# To resume after an interruption, run the script again.
set -euf -o pipefail # -f: no globbing of the * in settings

HERE=$(dirname "$0")
STILLS=$1
OUT=${2:-outputs/forgetting}
shift $(($# > 1 ? 2 : 1))
KEPT=rocket,cat,apple,frog,penguin,banana,airplane,eggplant,octopus,robot,car,pig,butterfly,cactus,ghost,umbrella,rainbow,watermelon
RARE=panda,pumpkin,star,mushroom,carrot,ladybug
CLIPS=${CLIPS:-300}
PROMPTS=${PROMPTS:-60}

# Name, share of image steps, and all steps of a run.
run() {
    videocrafter train tiny-t2v --stages low --init "$STILLS" --output "$OUT/$1" --set "stages.low.task.image_share=$2" \
        --set "stages.low.num_steps=$3" --set "stages.low.task.world.subjects=$KEPT" --set "stages.low.task.image_subjects=$RARE" \
        --set stages.low.task.num_clips=2048 --set stages.low.task.num_images=2048 \
        --set stages.low.ema_decay=0.98 --set "stages.*.validate_every=0" --set "stages.*.sample_every=0" \
        "${@:4}"
}

run with-images 0.4 $((CLIPS * 5 / 3)) "$@"
run clips-alone 0 "$CLIPS" "$@"

for group in "rare:$RARE" "kept:$KEPT"; do
    # shellcheck disable=SC2046  # word splitting is intended
    python "$HERE/ablations.py" "$OUT/exam-${group%%:*}" --of "$OUT/with-images/final" --steps 25 --guidance \
        --model "clips alone=$OUT/clips-alone/final" --prompts "$PROMPTS" \
        --subjects $(tr , ' ' <<<"${group#*:}")
done
