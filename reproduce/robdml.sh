#!/usr/bin/env bash
# Robust deep metric learning: train embedders by five recipes, attack their rankings, score robustness.
#
#   bash reproduce/robdml.sh --dataset cub|cars|sop|fashion|mnist [--data PATH] [--budget full|small]
#       [--precision fp32|bf16] [--seed 0] [--gpu 0]
#
# PATH is the set in its published layout (default: data/<dataset>); for fashion and mnist an .npz with
# x_train, y_train, x_test, y_test will do. full is the published training and evaluation, for a GPU. small
# is for 2 CPU cores and ends within 40 minutes: 20,000 pictures at 28 pixels, three passes, 8 steps in
# training and 10 in attacks, on 500 images; its steps are longer, so they reach as far. It leaves
# results/<dataset>/robdml.tsv with a row for each of none, est, act, hm (HM[S, g_LGA]), hm_ics.
set -euo pipefail

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0"; }

DATASET="" SOURCE="" BUDGET=full PRECISION=fp32 SEED=0 GPU=0
while [ $# -gt 0 ]; do
    [ "$1" != "-h" ] && [ "$1" != "--help" ] || { usage; exit 0; }
    [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
    case "$1" in
        --dataset) DATASET=$2 ;;
        --data) SOURCE=$(realpath "$2") ;;
        --budget) BUDGET=$2 ;;
        --precision) PRECISION=$2 ;;
        --seed) SEED=$2 ;;
        --gpu) GPU=$2 ;;
        *) echo "error: unknown option $1 (see bash reproduce/robdml.sh --help)" >&2; exit 2 ;;
    esac
    shift 2
done
case "$DATASET" in
    fashion | mnist) BACKBONE=rc2f2 PROFILE=rob28 EPS=77 STEP=12 PRETRAINED=() ;;
    cub | cars | sop) BACKBONE=rres18 PROFILE=rob224 EPS=8 STEP=1 PRETRAINED=(--pretrained imagenet) ;;
    *) echo "error: --dataset must be cub, cars, sop, fashion or mnist" >&2; exit 2 ;;
esac
TRAINING=() ATTACK=()
case "$BUDGET" in
    full) ;;
    small)
        TRAINING=(--max_pictures 20000 --epochs 3 --batch 32 --eps "$EPS/255")
        ATTACK=(--max_images 500 --pgditer 10 --alpha "$STEP/255")
        if [ "$BACKBONE" != rc2f2 ]; then
            BACKBONE=rc2f2 PRETRAINED=()
            TRAINING+=(--size 28)
            ATTACK+=(--resize 28)
        fi
        ;;
    *) echo "error: --budget must be full or small" >&2; exit 2 ;;
esac

source "$(dirname "$0")/setup.sh"
SOURCE=${SOURCE:-data/$DATASET}
[ -e "$SOURCE" ] || {
    echo "error: no data at $SOURCE: get $DATASET in its published layout, and name the place with --data" >&2
    exit 2
}
declare -A DEFENCE=([none]="" [est]=d [act]=p [hm]=ghmetsm [hm_ics]=ghmetsmi)
for recipe in none est act hm hm_ics; do
    checkpoint=models/robdml_${DATASET}_$recipe/model_best.pth.tar
    inner=()
    [ "$BUDGET" = full ] || [ "$recipe" = none ] || inner=(--steps 8 --step "$STEP/255")
    echo "== $recipe"
    python train_extractor.py -C "$DATASET:$BACKBONE${DEFENCE[$recipe]}:ptripletN" --data "$SOURCE" \
        --out "$checkpoint" --precision "$PRECISION" --seed "$SEED" --gpu "$GPU" \
        "${PRETRAINED[@]}" "${TRAINING[@]}" "${inner[@]}"
    python attack_ranking.py --dataset "$DATASET" --data "$SOURCE" --checkpoint "$checkpoint" \
        --profile "$PROFILE" --compat paper --precision "$PRECISION" --seed "$SEED" --gpu "$GPU" \
        "${ATTACK[@]}" --out "results/$DATASET/robdml/$recipe.tsv" \
        --compare "results/$DATASET/robdml.tsv" "$recipe"
done
column -t -s $'\t' "results/$DATASET/robdml.tsv"
