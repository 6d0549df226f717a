#!/usr/bin/env bash
# Runs the grid on a generated catalogue, without downloads, in about six minutes on two CPU cores.
#
#   bash reproduce/demo.sh [-- options of snakemake]
#
# It draws a catalogue and its users, trains two extractors (undefended and Free-AT), attacks the images
# of an unpopular class so that they look like a popular one, and writes results/demo/summary.tsv
# and results/demo/report.html. The study is reproduce/studies/demo.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "" "$@"
run_study demo
echo "report: results/demo/report.html"
