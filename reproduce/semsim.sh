#!/usr/bin/env bash
# Trains with and without privacy augmentation, inverts gradients, scores reconstructions, and ranks.
#
#   bash reproduce/semsim.sh [--data PATH] [--dataset cifar10|cifar100|folder] [--budget full|small]
#       [--semsim FILE] [--seeds "0"] [--gpu N] [-- options of snakemake]
#
# PATH is a labelled set (default: data/<dataset>), in its published layout, a folder of classes, or an
# .npz. If it is missing, the script uses the demo set's pictures at 32 pixels and prints so. Seven kinds
# of training (plain, crop, the policies 3-1-7, 43-18-18 and both, and crop with pruned or noisy
# gradients) make one network each of two kinds. Their gradients are inverted by inversed, and by dlg on
# lenet_zhu. Gradients that were pruned or noisy in training are inverted as shared, and also clean as in
# the published study. full is that study: cifar_resnet20x4 and convnet64, 200 epochs, 600 images, 8000
# steps, for a GPU. small is cifar_resnet20 and lenet_zhu, 2,000 pictures of the whole set, 16 images, 300
# and 500 steps: 2 CPU cores need at most 30 minutes. Images are scored by MSE, PSNR, SSIM and, with FILE,
# by a SemSim (made by audits.images train). Results are reconstructions/<dataset>/ with grid.png, and
# results/<dataset>/semsim.tsv, a row for each condition with its rank by every metric (1: most leaked).
# --seeds "0 1 2" trains and inverts each network three times, which takes three times as long, and gives
# means and 95 % intervals over these trainings.
# The study is reproduce/studies/semsim.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "data dataset budget semsim seeds gpu" "$@"
DATASET=${OPTION[dataset]:-cifar10}
DATA=${OPTION[data]:-$REPRODUCE/../data/$DATASET}
case "$DATASET" in cifar10 | cifar100 | folder) ;; *) fail "--dataset must be cifar10, cifar100 or folder" ;; esac
entries budget seeds gpu
if [ -e "$DATA" ]; then
    entry pictures "$DATASET"
    path_entries data
else
    echo "no pictures at ${OPTION[data]:-data/$DATASET}: the demo set's take their place, at 32 pixels"
    entry pictures demo
fi
path_entries semsim
run_study semsim
