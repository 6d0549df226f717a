#!/usr/bin/env bash
# What gradients leak: train with and without privacy augmentation, invert the gradients, score, rank.
#
#   bash reproduce/semsim.sh [--data PATH] [--dataset cifar10|cifar100|folder] [--budget full|small]
#       [--semsim FILE] [--seed 0] [--gpu 0]
#
# PATH is a labelled set (default: data/<dataset>), in its published layout, a folder of classes, or an
# .npz. Where it is missing the demo set's pictures at 32 pixels take its place, which is said. Six ways of
# training (plain, crop, the policies 3-1-7 and 43-18-18, and crop with pruned or noisy gradients) make one
# network each of two kinds. Their gradients are inverted by inversed, and by dlg on lenet_zhu; those that
# were pruned or noisy in training are inverted as they are shared, and clean as in the published study.
# full is that study: cifar_resnet20x4 and convnet64, 200 epochs, 600 images, 8000 steps, for a GPU. small
# is cifar_resnet20 and lenet_zhu, 2,000 pictures of the whole set, 16 images, 300 and 500 steps: 2 CPU cores
# finish it within 30 minutes. Images are scored by MSE, PSNR, SSIM and, with FILE, by a SemSim (made by
# evaluate_images.py train). It leaves reconstructions/<dataset>/ with grid.png, and
# results/<dataset>/semsim.tsv, a row for each condition with its rank by every metric (1: most leaked).
set -euo pipefail

usage() { sed -n '2,18s/^# \{0,1\}//p' "$0"; }
fail() { echo "error: $*" >&2; exit 2; }

DATA="" DATASET=cifar10 BUDGET=full SEMSIM=() SEED=0 GPU=""
while [ $# -gt 0 ]; do
    [ "$1" != "-h" ] && [ "$1" != "--help" ] || { usage; exit 0; }
    [ $# -ge 2 ] || fail "$1 needs a value"
    case "$1" in
        --data) DATA=$(realpath "$2") ;;
        --dataset) DATASET=$2 ;;
        --budget) BUDGET=$2 ;;
        --semsim) SEMSIM=(semsim --semsim "$(realpath "$2")") ;;
        --seed) SEED=$2 ;;
        --gpu) GPU=$2 ;;
        *) fail "unknown option $1 (see bash reproduce/semsim.sh --help)" ;;
    esac
    shift 2
done
declare -A ATTACKS
case "$BUDGET" in
    full)
        ARCHS=(cifar_resnet20x4 convnet64) TRAINING=(--epochs 200) IMAGES=(--n_images 600 --batch_targets 100)
        ATTACKS=([cifar_resnet20x4]="inversed" [convnet64]="inversed")
        : "${GPU:=0}"
        ;;
    small)
        ARCHS=(lenet_zhu cifar_resnet20) IMAGES=(--n_images 16)
        # With --part all nothing is held out, to be attacked for minutes after each training.
        TRAINING=(--part all --epochs 3 --max_pictures 2000)
        ATTACKS=(
            [lenet_zhu]="inversed --iterations 500;dlg --iterations 20"
            [cifar_resnet20]="inversed --iterations 300"
        )
        : "${GPU:=-1}"
        ;;
    *) fail "--budget must be full or small" ;;
esac
case "$DATASET" in
    cifar10 | cifar100 | folder) ;;
    *) fail "--dataset must be cifar10, cifar100 or folder" ;;
esac

source "$(dirname "$0")/setup.sh"
DATA=${DATA:-data/$DATASET}
NAME=$DATASET SIZE=()
[ "$DATASET" != folder ] || SIZE=(--size 32)
if [ ! -e "$DATA" ]; then
    echo "no pictures at $DATA: the demo set's take their place, at 32 pixels"
    python prepare_dataset.py demo
    DATA=data/demo DATASET=catalogue NAME=demo SIZE=(--size 32)
fi
SOURCE=(--data "$DATA" --dataset "$DATASET" "${SIZE[@]}" --seed "$SEED" --gpu "$GPU")
OUT=reconstructions/$NAME

# How each condition trains, and what is done to what it shares when it is attacked.
CONDITIONS=(plain crop 3-1-7 43-18-18 prune_70 gaussian_1e-3)
declare -A TRAINED=(
    [plain]="--augmentation none"
    [crop]="--augmentation crop"
    [3-1-7]="--augmentation ats:3-1-7"
    [43-18-18]="--augmentation ats:43-18-18"
    [prune_70]="--augmentation crop --gradient_defence prune_70"
    [gaussian_1e-3]="--augmentation crop --gradient_defence gaussian_1e-3"
)
declare -A SHARED=([prune_70]="none prune_70" [gaussian_1e-3]="none gaussian_1e-3")

for arch in "${ARCHS[@]}"; do
    IFS=';' read -ra attacks <<<"${ATTACKS[$arch]}"
    for condition in "${CONDITIONS[@]}"; do
        printf '\n== %s\n' "$arch, $condition"
        checkpoint=models/semsim_${NAME}_${arch}_$condition/model_best.pth.tar
        read -ra trained <<<"${TRAINED[$condition]}"
        read -ra defences <<<"${SHARED[$condition]:-none}"
        python train_extractor.py "${SOURCE[@]}" --arch "$arch" --schedule conservative "${TRAINING[@]}" \
            "${trained[@]}" --out "$checkpoint"
        for attack in "${attacks[@]}"; do
            read -ra optim <<<"$attack"
            python invert_gradients.py "${SOURCE[@]}" "${IMAGES[@]}" --checkpoint "$checkpoint" \
                --optim "${optim[@]}" --defence "${defences[@]}" --out "$OUT"
        done
    done
done

printf '\n== scores\n'
folders=()
for record in "$OUT"/*_rlabel_False*.json; do
    case "$record" in
        *.manifest.json) ;;
        *) folders+=("${record%.json}") ;;
    esac
done
python evaluate_images.py score --attacked "${folders[@]}" --metrics mse psnr ssim "${SEMSIM[@]}" \
    --gpu "$GPU" --out "results/$NAME/semsim_images.tsv"
python summarize.py --leaks "results/$NAME/semsim_images_conditions.tsv" "results/$NAME/semsim.tsv"
