#!/usr/bin/env bash
# Runs the grid of attacks and recommenders on your own catalogue with one classifier.
#
#   bash reproduce/catalogue.sh --name N --images DIR --train FILE --test FILE \
#       --arch A --weights FILE --origin O --target T \
#       [--epochs 100] [--batch 512] [--lr 0.05] [--seeds "0 1 2"] [--gpu 0] [--cw "--steps 1000"] \
#       [-- options of snakemake]
#
# DIR holds <item id>.jpg, the two TSV files hold user and item ids. Results are
# data/N/, results/N/summary.tsv and results/N/report.html. The study is reproduce/studies/catalogue.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "name images train test arch weights origin target epochs batch lr seeds gpu cw" "$@"
require_options name images train test arch weights origin target
entries name=dataset arch origin target epochs=epoch batch lr seeds gpu cw
path_entries images train test weights
run_study catalogue
