#!/usr/bin/env bash
# Attention rectification and preservation (ARP): what each of its terms is worth, at equal compute.
#
#   bash reproduce/arp.sh [--data PATH] [--test PATH] [--budget full|small] [--seeds "0 1 2"]
#       [--units N] [--precision fp32|bf16] [--gpu N] [-- options of snakemake]
#
# PATH is CIFAR-10 in its published layout (default: data/cifar10), or an .npz with x and y, of which one
# half trains and the other half tests; with --test, all of --data trains and all of --test tests. Without
# CIFAR-10 the demo set's pictures take its place, which is said. Six recipes (plain, stepll_at, pgd_at,
# preserve, rectify, arp) train one network each for the same number of forward-backward passes (--units),
# and meet step-LL, R+step-LL, Iter-LL, PGD-20, C&W and AutoAttack within 8/255. Then the extractors plain,
# pgd_at and arp of the demo catalogue go through stages 1 to 5.
# full is cifar_resnet20, 200 units, 10 inner steps, all test images, for a GPU. small is cifar_resnet8, 24
# units of 3 inner steps in bf16, 200 test images, the fast AutoAttack: 2 CPU cores finish it within 40
# minutes. It leaves results/cifar10/arp.tsv, a row for each recipe, attack and seed, arp_summary.tsv beside
# it, and results/demo/summary.tsv. What it runs stands in reproduce/studies/arp.yaml and arp_catalogue.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "data test budget seeds units precision gpu" "$@"
entries budget precision gpu
OF_BOTH=("${ENTRIES[@]}")
entries seeds units
if [ ! -e "${OPTION[data]:-$REPRODUCE/../data/cifar10}" ]; then
    echo "no CIFAR-10 at ${OPTION[data]:-data/cifar10}: the demo set's pictures take its place, at 32 pixels"
    entry pictures demo
else
    path_entries data test
    [ -z "${OPTION[test]:-}" ] || { entry train_part all && entry test_part all; }
fi
run_study arp
ENTRIES=("${OF_BOTH[@]}")
run_study arp_catalogue
