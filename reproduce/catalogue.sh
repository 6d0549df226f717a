#!/usr/bin/env bash
# The same grid for a catalogue of your own and one ImageNet (or other) classifier.
#
#   bash reproduce/catalogue.sh --name N --images DIR --train FILE --test FILE \
#       --arch A --weights FILE --origin O --target T \
#       [--epochs 100] [--batch 512] [--lr 0.05] [--seeds "0 1 2"] [--gpu 0] [--cw "--max_it 1000"]
#
# DIR holds <item id>.jpg, the two TSV files hold user and item ids. It leaves data/N/ and
# results/N/summary.tsv.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }

EPOCHS=100 BATCH=512 LR=0.05 GPU=0 seeds="0 1 2" cw=""
while [ $# -gt 0 ]; do
    [ "$1" != "-h" ] && [ "$1" != "--help" ] || { usage; exit 0; }
    [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
    case "$1" in
        --name) DATASET=$2 ;;
        --images) IMAGES=$(realpath "$2") ;;
        --train) TRAIN=$(realpath "$2") ;;
        --test) TEST=$(realpath "$2") ;;
        --arch) ARCH=$2 ;;
        --weights) WEIGHTS=$(realpath "$2") ;;
        --origin) ORIGIN=$2 ;;
        --target) TARGET=$2 ;;
        --epochs) EPOCHS=$2 ;;
        --batch) BATCH=$2 ;;
        --lr) LR=$2 ;;
        --seeds) seeds=$2 ;;
        --gpu) GPU=$2 ;;
        --cw) cw=$2 ;;
        *) echo "error: unknown option $1 (see bash reproduce/catalogue.sh --help)" >&2; exit 2 ;;
    esac
    shift 2
done
for needed in DATASET IMAGES TRAIN TEST ARCH WEIGHTS ORIGIN TARGET; do
    [ -n "${!needed:-}" ] || { echo "error: --${needed,,} is missing (see --help)" >&2; exit 2; }
done

source "$(dirname "$0")/setup.sh"
source reproduce/grid.sh
use_seeds "$seeds"
EXTRACTORS=(original)
declare -A EXTRACTOR_OPTIONS=([original]="--defense 0 --arch $ARCH --model_file $WEIGHTS")
ATTACKS=("${PAPER_ATTACKS[@]/--attack_type cw/--attack_type cw $cw}")
RECOMMENDER=(--epoch "$EPOCHS" --batch_size "$BATCH" --lr "$LR")

python prepare_dataset.py folder --dataset "$DATASET" --images "$IMAGES" --train "$TRAIN" --test "$TEST"
run_grid
