#!/usr/bin/env bash
# Trains embedders by five recipes, attacks their rankings, and scores robustness (deep metric learning).
#
#   bash reproduce/robdml.sh --dataset cub|cars|sop|fashion|mnist [--data PATH] [--budget full|small]
#       [--precision fp32|bf16] [--seeds "0"] [--gpu N] [-- options of snakemake]
#
# PATH is the set in its published layout (default: data/<dataset>); for fashion and mnist it may be an
# .npz with x_train, y_train, x_test, y_test. full is the published training and evaluation, for a GPU.
# small is for 2 CPU cores and needs at most 40 minutes: 20,000 pictures at 28 pixels, three passes, 8
# steps in training and 10 in attacks, on 500 images. The result is results/<dataset>/robdml.tsv with a
# row for each of none, est, act, hm (HM[S, g_LGA]), hm_ics; several seeds give means and 95 % intervals.
# The study is reproduce/studies/robdml.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "dataset data budget precision seeds gpu" "$@"
require_options dataset
entries dataset budget precision seeds gpu
path_entries data
run_study robdml
