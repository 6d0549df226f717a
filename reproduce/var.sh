#!/usr/bin/env bash
# The grid of the VAR paper for one of its data sets: 3 extractors x (clean, FGSM 4 and 8, PGD 4 and 8,
# C&W) x (VBPR, AMR), every retraining over several seeds, with its controls.
#
#   bash reproduce/var.sh amazon_men|amazon_women|tradesy [--epochs 4000] [--seeds "0 1 2"] [--gpu 0]
#
# It needs the data (download_datasets.sh) and the two published checkpoints:
#   models/madry/imagenet_linf_4.pt      models/free_adv/model_best.pth.tar
set -euo pipefail

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }

DATASET=${1:-}
case "$DATASET" in
    amazon_men) ORIGIN=774 TARGET=770 ;;   # sandal -> running shoe
    amazon_women) ORIGIN=610 TARGET=459 ;; # jersey -> brassiere; the paper's target is not on record
    tradesy) ORIGIN=834 TARGET=869 ;;      # suit -> trench coat
    -h | --help) usage; exit 0 ;;
    *) echo "error: name a data set: amazon_men, amazon_women or tradesy" >&2; exit 2 ;;
esac
shift

EPOCHS=4000 GPU=0 seeds="0 1 2"
while [ $# -gt 0 ]; do
    case "$1" in
        --epochs) EPOCHS=$2 ;;
        --seeds) seeds=$2 ;;
        --gpu) GPU=$2 ;;
        *) echo "error: unknown option $1 (see bash reproduce/var.sh --help)" >&2; exit 2 ;;
    esac
    shift 2
done

source "$(dirname "$0")/setup.sh"
source reproduce/grid.sh
use_seeds "$seeds"
EXTRACTORS=(original madry free_adv)
declare -A EXTRACTOR_OPTIONS=(
    [original]="--defense 0"
    [madry]="--defense 1 --model_dir madry --model_file imagenet_linf_4.pt"
    [free_adv]="--defense 1 --model_dir free_adv --model_file model_best.pth.tar"
)
ATTACKS=("${PAPER_ATTACKS[@]}")
RECOMMENDER=(--epoch "$EPOCHS")
run_grid
