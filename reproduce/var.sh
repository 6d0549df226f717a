#!/usr/bin/env bash
# The grid of the VAR paper for one of its data sets: 3 extractors x (clean, FGSM 4 and 8, PGD 4 and 8,
# C&W) x (VBPR, AMR), every retraining over several seeds, with its controls.
#
#   bash reproduce/var.sh amazon_men|amazon_women|tradesy [--epochs 4000] [--seeds "0 1 2"] [--gpu 0]
#       [-- options of snakemake]
#
# It needs the data (download_datasets.sh) and the two published checkpoints:
#   models/madry/imagenet_linf_4.pt      models/free_adv/model_best.pth.tar
# What it runs stands in reproduce/studies/var.yaml.
set -euo pipefail

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }

DATASET=${1:-}
case "$DATASET" in
    amazon_men) pair=(origin=774 target=770) ;;   # sandal -> running shoe
    amazon_women) pair=(origin=610 target=459) ;; # jersey -> brassiere; the paper's target is not on record
    tradesy) pair=(origin=834 target=869) ;;      # suit -> trench coat
    -h | --help) usage; exit 0 ;;
    *) echo "error: name a data set: amazon_men, amazon_women or tradesy" >&2; exit 2 ;;
esac
shift

config=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    [ "$1" != "-h" ] && [ "$1" != "--help" ] || { usage; exit 0; }
    [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
    case "$1" in
        --epochs) config+=(epoch="$2") ;;
        --seeds) config+=(seeds="$2") ;;
        --gpu) config+=(gpu="$2") ;;
        *) echo "error: unknown option $1 (see bash reproduce/var.sh --help)" >&2; exit 2 ;;
    esac
    shift 2
done
[ $# -eq 0 ] || shift

exec bash "$(dirname "$0")/study.sh" var --config dataset="$DATASET" "${pair[@]}" "${config[@]}" "$@"
