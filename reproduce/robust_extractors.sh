#!/usr/bin/env bash
# Measures whether robust extractors of seven recipes protect a recommender on one catalogue.
#
#   bash reproduce/robust_extractors.sh --dataset D [--labels FILE] [--budget full|small]
#       [--arch A] [--size N] [--pretrained imagenet|FILE|none] [--epochs N] [--embedder_epochs N]
#       [--origin O --target T] [--attack_eps "8"] [--seeds "0 1 2"] [--extractor_seeds "0"] [--gpu N] [-- options of snakemake]
#
# data/D is a prepared catalogue (prepare_dataset.py); the category of each item is in
# data/D/items.csv (columns item, category), to which FILE is copied. Half of the pictures of each
# category train classifiers A (plain, madry, free) and embedders A+512 (none, act, hm: HM[S, g_LGA],
# hm_ics) against 8/255; the other half is for the test. Then PGD turns the items of category O into T, by
# default a category of at least 40 items that is rarely recommended into the most recommended one.
# full is resnet18 at 224 pixels from ImageNet weights, for a GPU. small is c2f2 at 28 pixels in grey, in
# bf16, on a CPU: 2 cores need at most 40 minutes for a catalogue of 3,000 pictures. Such small pictures
# hardly change within 8/255, so that it also attacks within 32/255. --extractor_seeds "0 1 2" trains all
# extractors three times, which takes three times as long, and gives means with intervals over trainings.
# Results are results/D/robust_extractors.tsv with a row for each recipe and budget, results/D/summary.tsv
# and results/D/report.html. The study is reproduce/studies/robust_extractors.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "dataset labels budget arch size pretrained epochs embedder_epochs origin target attack_eps seeds
    extractor_seeds gpu" "$@"
require_options dataset
[ "${OPTION[origin]+given}" = "${OPTION[target]+given}" ] || fail "--origin and --target belong together"
DATASET=${OPTION[dataset]} PRETRAINED=${OPTION[pretrained]:-} EPOCHS=${OPTION[epochs]:-} LABELS=${OPTION[labels]:-}
entries dataset budget arch size epochs embedder_epochs seeds extractor_seeds gpu
if [ -n "$EPOCHS" ]; then
    [[ "$EPOCHS" =~ ^[1-9][0-9]*$ ]] || fail "--epochs must be a whole number"
    entry free_epochs $((4 * EPOCHS))
fi
case "$PRETRAINED" in
    "") ;;
    none) entry pretrained "" ;;
    imagenet) entry pretrained "--pretrained imagenet" ;;
    *) entry pretrained "--pretrained $(quoted_path "$PRETRAINED")" ;;
esac
if [ -n "${OPTION[attack_eps]:-}" ]; then
    attacks=()
    for eps in ${OPTION[attack_eps]}; do
        attacks+=("\"--attack_type pgd --eps $eps\"" "\"{rank} --eps $eps\"" "\"--attack_type noise --eps $eps\"")
    done
    ENTRIES+=("\"attacks\": [$(IFS=,; echo "${attacks[*]}")]")
fi
if [ -n "$LABELS" ]; then
    catalogue=$REPRODUCE/../data/$DATASET
    [ -f "$LABELS" ] || fail "there is no file $LABELS"
    [ -d "$catalogue" ] || fail "no data set at data/$DATASET: make it with prepare_dataset.py"
    cmp -s "$LABELS" "$catalogue/items.csv" || cp "$LABELS" "$catalogue/items.csv"
fi

[ -n "${OPTION[origin]:-}" ] ||
    choose_pair robust_extractors --dataset "$DATASET" --experiment_name plain_original --min_items 40
entries origin target
run_study robust_extractors
