#!/usr/bin/env bash
# BPR-MF and AMF: parameters attacked, adversarial training, accuracy again, beside their controls.
#
#   bash reproduce/apr.sh [--data DIR] [--seeds "0 1 2 3 4 5 6 7 8 9"] [--short]
#
# DIR holds trainingset.tsv and testset.tsv (user, item[, rating[, time]]; ids of any kind) and perhaps
# validationset.tsv; without it MovieLens is downloaded. It leaves results/movielens-500/:
#   apr.tsv        5 epochs, attacked with eps 0.5, defended for one epoch: one row for each seed and state
#   apr_long.tsv   50 epochs and 50 more, plain or adversarial, attacked with eps 0.5, 1, 2 (not with --short)
# with the effects and their intervals in *_effects.tsv and *.json, and a figure apr_long.png.
set -euo pipefail

usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; }

DATASET=movielens-500 SOURCE="" SHORT="" seeds="0 1 2 3 4 5 6 7 8 9"
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --short) SHORT=1; shift; continue ;;
    esac
    [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
    case "$1" in
        --data) SOURCE=$(realpath "$2") ;;
        --seeds) seeds=$2 ;;
        *) echo "error: unknown option $1 (see bash reproduce/apr.sh --help)" >&2; exit 2 ;;
    esac
    shift 2
done
read -ra SEEDS <<<"$seeds"

source "$(dirname "$0")/setup.sh"
if [ -n "$SOURCE" ]; then
    validation=()
    [ ! -f "$SOURCE/validationset.tsv" ] || validation=(--validation "$SOURCE/validationset.tsv")
    python prepare_dataset.py interactions --dataset "$DATASET" --train "$SOURCE/trainingset.tsv" \
        --test "$SOURCE/testset.tsv" "${validation[@]}"
elif [ ! -f "data/$DATASET/trainingset.tsv" ] || [ ! -f "data/$DATASET/testset.tsv" ]; then
    bash download_datasets.sh "$DATASET"
fi

train() { python rec_generator.py --dataset "$DATASET" --topk 100 --seed "${SEEDS[@]}" "$@"; }
attack() { python attack_rec.py --dataset "$DATASET" --topk 100 --seed "${SEEDS[@]}" --negatives sampled "$@"; }

# One adversarial epoch in three kinds: under the attack on all pairs, under that on the batch (He et al.),
# and as published, where the term that should be clean is perturbed too. The control is a sixth plain one.
train --model Pop Random BPRMF --epoch 5
train --model BPRMF AMF --epoch 6 --adv_epochs 1 --eps 0.5 --adv_reg 1
train --model AMF --epoch 6 --adv_epochs 1 --eps 0.5 --adv_reg 1 --perturb full
train --model BPRMF AMF --epoch 6 --adv_epochs 1 --eps 0.5 --adv_reg 1 --perturb full --fidelity paper
# Ten draws of the attack's negatives for each seed: a single one moves the decrease of HR by 5 points.
attack --output apr --attack fgsm --eps 0.5 --draws 10 --compare clean=original_step5_BPRMF \
    control=original_step6_BPRMF defended=original_step6_AMF-full batch=original_step6_AMF \
    published_control=original_step6_BPRMF_paper published=original_step6_AMF-full_paper

[ -z "$SHORT" ] || exit 0
train --model BPRMF AMF --epoch 100 --adv_epochs 50 --eps 0.5 --adv_reg 1
attack --output apr_long --attack fgsm bim --eps 0.5 1 2 --steps 25 --projection box \
    --compare BPR=original_step100_BPRMF APR=original_step100_AMF
