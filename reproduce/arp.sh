#!/usr/bin/env bash
# Attention rectification and preservation (ARP): what each of its terms is worth, at equal compute.
#
#   bash reproduce/arp.sh [--data PATH] [--test PATH] [--budget full|small] [--seeds "0 1 2"]
#       [--units N] [--precision fp32|bf16] [--gpu 0]
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
# it, and results/demo/summary.tsv.
set -euo pipefail

usage() { sed -n '2,19s/^# \{0,1\}//p' "$0"; }
fail() { echo "error: $*" >&2; exit 2; }

DATA="" TEST="" BUDGET=full seeds="0 1 2" UNITS="" PRECISION="" GPU=""
while [ $# -gt 0 ]; do
    [ "$1" != "-h" ] && [ "$1" != "--help" ] || { usage; exit 0; }
    [ $# -ge 2 ] || fail "$1 needs a value"
    case "$1" in
        --data) DATA=$(realpath "$2") ;;
        --test) TEST=$(realpath "$2") ;;
        --budget) BUDGET=$2 ;;
        --seeds) seeds=$2 ;;
        --units) UNITS=$2 ;;
        --precision) PRECISION=$2 ;;
        --gpu) GPU=$2 ;;
        *) fail "unknown option $1 (see bash reproduce/arp.sh --help)" ;;
    esac
    shift 2
done
case "$BUDGET" in
    full)
        ARCH=cifar_resnet20 INNER=(--steps 10 --step 2) EVALUATION=()
        : "${UNITS:=200}" "${PRECISION:=fp32}" "${GPU:=0}"
        ;;
    small)
        ARCH=cifar_resnet8 INNER=(--steps 3 --step 4) EVALUATION=(--max_images 200 --autoattack fast)
        : "${UNITS:=24}" "${PRECISION:=bf16}" "${GPU:=-1}"
        ;;
    *) fail "--budget must be full or small" ;;
esac

source "$(dirname "$0")/setup.sh"
source reproduce/grid.sh
read -ra SEEDS <<<"$seeds"
RECIPES=(plain stepll_at pgd_at preserve rectify arp)

# The demo set: its pictures where CIFAR-10 is missing, and its catalogue in any case.
say "the demo set"
python prepare_dataset.py demo
LAYOUT=cifar10 NAME=cifar10 SIZE=() RESIZE=()
DATA=${DATA:-data/cifar10}
if [ ! -e "$DATA" ]; then
    echo "no CIFAR-10 at $DATA: the demo set's pictures take its place, at 32 pixels"
    DATA=data/demo LAYOUT=catalogue NAME=demo TEST="" SIZE=(--size 32) RESIZE=(--resize 32)
fi
OUT=results/$NAME/arp
PARTS=(--part train) TEST_PART=(--part test)
if [ -n "$TEST" ]; then
    PARTS=(--part all) TEST_PART=(--part all)
fi

# Trains one network and attacks it; what it prints goes to its log.
train_and_attack() {
    local recipe=$1 seed=$2 checkpoint=models/arp_${NAME}_$1_$2/model_best.pth.tar adversary=()
    [ "$recipe" = plain ] || [ "$recipe" = stepll_at ] || adversary=("${INNER[@]}")
    python train_extractor.py --data "$DATA" --dataset "$LAYOUT" "${PARTS[@]}" "${SIZE[@]}" --arch "$ARCH" \
        --recipe "$recipe" --eps 8 "${adversary[@]}" --units "$UNITS" --precision "$PRECISION" \
        --seed "$seed" --gpu "$GPU" --out "$checkpoint"
    python evaluate_robustness.py --data "${TEST:-$DATA}" --dataset "$LAYOUT" "${TEST_PART[@]}" "${RESIZE[@]}" \
        --checkpoint "$checkpoint" --eps 8 "${EVALUATION[@]}" --seed "$seed" --gpu "$GPU" \
        --label "$recipe" --out "$OUT/${recipe}_$seed.tsv"
}

# As many at once as there are CPU cores, with one thread each; one after the other on a GPU.
JOBS=1
if [ "$GPU" = -1 ]; then
    JOBS=$(env -u OMP_NUM_THREADS nproc) # which it would count as the number of cores
    export OMP_NUM_THREADS=1
fi
say "${#RECIPES[@]} recipes x ${#SEEDS[@]} seeds, $JOBS at once; logs in $OUT/"
mkdir -p "$OUT"
running=0
for seed in "${SEEDS[@]}"; do
    for recipe in "${RECIPES[@]}"; do
        if [ "$running" -ge "$JOBS" ]; then
            wait -n || fail "a training or an attack failed: see the newest log in $OUT/"
            running=$((running - 1))
        fi
        (
            train_and_attack "$recipe" "$seed" >"$OUT/${recipe}_$seed.log" 2>&1
            echo "done: $recipe, seed $seed"
        ) &
        running=$((running + 1))
    done
done
while [ "$running" -gt 0 ]; do
    wait -n || fail "a training or an attack failed: see the newest log in $OUT/"
    running=$((running - 1))
done
unset OMP_NUM_THREADS

say "robust accuracy"
for seed in "${SEEDS[@]}"; do
    for recipe in "${RECIPES[@]}"; do
        cat "$OUT/${recipe}_$seed.tsv"
    done
done | awk 'NR == 1 || !/^recipe\t/' >"$OUT.part"
mv "$OUT.part" "$OUT.tsv"
python summarize.py --robust_accuracy "$OUT.tsv" --baseline pgd_at

# A catalogue with the extractors: what the defence does to recommendations.
DATASET=demo ORIGIN=0 TARGET=1 SEEDS=(0 1) CONTROL_SEEDS=(2 3)
EXTRACTORS=(original demo_pgd_at demo_arp)
declare -A EXTRACTOR_OPTIONS=([original]="--defense 0 --model_file models/plain/demo.pt")
ATTACKS=("--attack_type pgd --eps 4" "--attack_type pgd --eps 8" "--attack_type noise --eps 8")
RECOMMENDER=(--epoch 100 --lr 0.05)
say "extractors of the demo catalogue"
pictures=(--images data/demo/extractor/images --labels data/demo/extractor/labels.csv --gpu "$GPU")
python train_extractor.py --recipe plain "${pictures[@]}" --arch resnet18 --out models/plain/demo.pt
for recipe in pgd_at arp; do
    EXTRACTOR_OPTIONS[demo_$recipe]="--defense 1 --model_dir demo_$recipe --model_file demo.pt"
    python train_extractor.py --recipe "$recipe" "${pictures[@]}" --arch resnet18 \
        --pretrained models/plain/demo.pt --units 12 --eps 8 "${INNER[@]}" --precision "$PRECISION" \
        --out "models/demo_$recipe/demo.pt"
done
run_grid
