#!/usr/bin/env bash
# Measures the effect of each term of attention rectification and preservation (ARP) at equal compute.
#
#   bash reproduce/arp.sh [--data PATH] [--test PATH] [--budget full|small] [--seeds "0 1 2"]
#       [--units N] [--precision fp32|bf16] [--gpu N] [-- options of snakemake]
#
# PATH is CIFAR-10 in its published layout (default: data/cifar10), or an .npz with x and y, of which one
# half is for training and the other half for the test. With --test, all of --data is for training and all
# of --test for the test. Without CIFAR-10 the script uses the demo set's pictures and prints so. Six
# recipes (plain, stepll_at, pgd_at, preserve, rectify, arp) train one network each for the same number of
# forward-backward passes (--units), and are attacked by step-LL, R+step-LL, Iter-LL, PGD-20, C&W and
# AutoAttack within 8/255. Then stages 1 to 5 run with the extractors plain, pgd_at and arp on the demo
# catalogue, attacked by class and by the ranks of VBPR. full is cifar_resnet20, 200 units, 10 inner steps,
# all test images, for a GPU. small is cifar_resnet8, 24 units of 3 inner steps in bf16, 200 test images,
# the fast AutoAttack: 2 CPU cores need at most 40 minutes. Results are results/cifar10/arp.tsv, with a row
# for each recipe, attack and seed, arp_summary.tsv beside it, results/demo/summary.tsv and
# results/demo/promotion.tsv. The studies are reproduce/studies/arp.yaml and arp_catalogue.yaml.
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
