#!/usr/bin/env bash
# BPR-MF and AMF: parameters attacked, adversarial training, accuracy again, beside their controls.
#
#   bash reproduce/apr.sh [--data DIR] [--seeds "0 1 2 3 4 5 6 7 8 9"] [--short] [-- options of snakemake]
#
# DIR holds trainingset.tsv and testset.tsv (user, item[, rating[, time]]; ids of any kind) and perhaps
# validationset.tsv; without it MovieLens is downloaded. It leaves results/movielens-500/:
#   apr.tsv        5 epochs, attacked with eps 0.5, defended for one epoch: one row for each seed and state
#   apr_long.tsv   50 epochs and 50 more, plain or adversarial, attacked with eps 0.5, 1, 2 (not with --short)
# with the effects and their intervals in *_effects.tsv and *.json, and a figure apr_long.png. What it runs
# stands in reproduce/studies/apr.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "data seeds short!" "$@"
entries seeds
[ -z "${OPTION[short]:-}" ] || entry tables apr

prepare() {
    local folder validation=()
    folder=$(realpath "$1")
    [ ! -f "$folder/validationset.tsv" ] || validation=(--validation "$folder/validationset.tsv")
    source "$REPRODUCE/setup.sh" requirements.txt
    python prepare_dataset.py interactions --dataset movielens-500 --train "$folder/trainingset.tsv" \
        --test "$folder/testset.tsv" "${validation[@]}"
}

HERE=$REPRODUCE/../data/movielens-500
if [ -n "${OPTION[data]:-}" ]; then
    prepare "${OPTION[data]}"
elif [ ! -f "$HERE/trainingset.tsv" ] || [ ! -f "$HERE/testset.tsv" ]; then
    bash "$REPRODUCE/../download_datasets.sh" movielens-500
fi
run_study apr
