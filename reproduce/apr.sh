#!/usr/bin/env bash
# Trains BPR-MF and AMF, attacks their parameters, and measures accuracy, beside controls.
#
#   bash reproduce/apr.sh [--data DIR] [--seeds "0 1 2 3 4 5 6 7 8 9"] [--short] [-- options of snakemake]
#
# DIR holds trainingset.tsv and testset.tsv (user, item[, rating[, time]]; ids of any kind) and optionally
# validationset.tsv. Without --data MovieLens is downloaded. Results are in results/movielens-500/:
#   apr.tsv        5 epochs, attacks with eps 0.5, one epoch of defence: a row for each seed and state
#   apr_long.tsv   50 epochs and 50 more, plain or adversarial, attacks with eps 0.5, 1, 2 (not with --short)
# Effects with intervals are in *_effects.tsv and *.json, and a figure in apr_long.png. The study is
# reproduce/studies/apr.yaml.
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
