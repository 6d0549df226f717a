#!/usr/bin/env bash
# Runs the grid of the VAR paper on one of its data sets: 3 extractors x (clean, FGSM 4 and 8, PGD 4 and 8,
# C&W) x (VBPR, AMR), with several seeds of every retraining, and its controls.
#
#   bash reproduce/var.sh amazon_men|amazon_women|tradesy [--epochs 4000] [--seeds "0 1 2"] [--gpu 0]
#       [-- options of snakemake]
#
# It needs the data (download_datasets.sh) and the two published checkpoints:
#   models/madry/imagenet_linf_4.pt      models/free_adv/model_best.pth.tar
# The study is reproduce/studies/var.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    "" | -*) fail "name a data set: amazon_men, amazon_women or tradesy" ;;
esac
entry dataset "$1"
read_options "epochs seeds gpu" "${@:2}"
entries epochs=epoch seeds gpu
run_study var
