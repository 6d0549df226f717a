#!/usr/bin/env bash
# Does an extractor that was trained to be robust protect a recommender? One catalogue, seven recipes.
#
#   bash reproduce/robust_extractors.sh --dataset D [--labels FILE] [--budget full|small]
#       [--arch A] [--size N] [--pretrained imagenet|FILE|none] [--epochs N] [--embedder_epochs N]
#       [--origin O --target T] [--attack_eps "8"] [--seeds "0 1 2"] [--gpu 0]
#
# data/D is a prepared catalogue (prepare_dataset.py); the category of each item stands in
# data/D/items.csv (columns item, category), and FILE is copied there. Half of the pictures of each
# category train classifiers A (plain, madry, free) and embedders A+512 (none, act, hm: HM[S, g_LGA],
# hm_ics) against 8/255; the other half judges them. Then PGD turns the items of category O into T, by
# default a category of at least 40 items that is rarely recommended into the one that is most often.
# full is resnet18 at 224 pixels from ImageNet weights, for a GPU. small is c2f2 at 28 pixels in grey, in
# bf16, on a CPU: 2 cores finish a catalogue of 3,000 pictures within 40 minutes; so small, pictures
# hardly change within 8/255, and it attacks within 32/255 too. It leaves results/D/robust_extractors.tsv
# with a row for each recipe and budget, and results/D/summary.tsv.
set -euo pipefail

usage() { sed -n '2,18s/^# \{0,1\}//p' "$0"; }
fail() { echo "error: $*" >&2; exit 2; }

BUDGET=full LABELS="" ORIGIN="" TARGET="" seeds="0 1 2"
ARCH="" SIZE="" PRETRAINED="" EPOCHS="" EMBEDDER_EPOCHS="" ATTACK_EPS="" GPU=""
while [ $# -gt 0 ]; do
    [ "$1" != "-h" ] && [ "$1" != "--help" ] || { usage; exit 0; }
    [ $# -ge 2 ] || fail "$1 needs a value"
    case "$1" in
        --dataset) DATASET=$2 ;;
        --labels) LABELS=$(realpath "$2") ;;
        --budget) BUDGET=$2 ;;
        --arch) ARCH=$2 ;;
        --size) SIZE=$2 ;;
        --pretrained) PRETRAINED=$2 ;;
        --epochs) EPOCHS=$2 ;;
        --embedder_epochs) EMBEDDER_EPOCHS=$2 ;;
        --origin) ORIGIN=$2 ;;
        --target) TARGET=$2 ;;
        --attack_eps) ATTACK_EPS=$2 ;;
        --seeds) seeds=$2 ;;
        --gpu) GPU=$2 ;;
        *) fail "unknown option $1 (see bash reproduce/robust_extractors.sh --help)" ;;
    esac
    shift 2
done
[ -n "${DATASET:-}" ] || fail "--dataset is missing (see --help)"
[ -z "$ORIGIN" ] && [ -z "$TARGET" ] || { [ -n "$ORIGIN" ] && [ -n "$TARGET" ]; } ||
    fail "--origin and --target belong together"
case "$BUDGET" in
    full)
        : "${ARCH:=resnet18}" "${SIZE:=224}" "${PRETRAINED:=imagenet}" "${GPU:=0}"
        : "${EPOCHS:=12}" "${EMBEDDER_EPOCHS:=75}" "${ATTACK_EPS:=8}"
        TRAINING=() EMBEDDING="" RANKING=()
        ;;
    small)
        : "${ARCH:=c2f2}" "${SIZE:=28}" "${PRETRAINED:=none}" "${GPU:=-1}"
        : "${EPOCHS:=30}" "${EMBEDDER_EPOCHS:=10}" "${ATTACK_EPS:=8 32}"
        TRAINING=(--precision bf16) EMBEDDING="--batch 32" RANKING=(--max_images 200)
        ;;
    *) fail "--budget must be full or small" ;;
esac
[ "$PRETRAINED" = none ] || TRAINING+=(--pretrained "$PRETRAINED")

source "$(dirname "$0")/setup.sh"
source reproduce/grid.sh
read -ra SEEDS <<<"$seeds"
CONTROL_SEEDS=() # noise is the control of what recommenders do at test time
RECIPES=(plain madry free none act hm hm_ics)
inner="--steps 8 --step 2"
embedder="--arch $ARCH+512 --epochs $EMBEDDER_EPOCHS $EMBEDDING"
# A free recipe draws as many mini-batches as the others: its passes count the replays of each.
declare -A RECIPE_OPTIONS=(
    [plain]="--recipe plain --arch $ARCH --epochs $EPOCHS"
    [madry]="--recipe madry --arch $ARCH --epochs $EPOCHS $inner"
    [free]="--recipe free --arch $ARCH --epochs $((4 * EPOCHS)) --replays 4"
    [none]="--recipe none $embedder"
    [act]="--recipe act $embedder $inner"
    [hm]="--recipe hm $embedder $inner"
    [hm_ics]="--recipe hm --ics 0.5 $embedder $inner"
)
EXTRACTORS=("${RECIPES[@]/#/${DATASET}_}")
declare -A EXTRACTOR_OPTIONS
for extractor in "${EXTRACTORS[@]}"; do
    EXTRACTOR_OPTIONS[$extractor]="--defense 1 --model_dir $extractor --resize $SIZE"
done
ATTACKS=()
for eps in $ATTACK_EPS; do
    ATTACKS+=("--attack_type pgd --eps $eps" "--attack_type noise --eps $eps")
done
RECOMMENDER=(--model VBPR --epoch 50 --lr 0.05)
SUMMARY=(--epoch 50 --extractors "${EXTRACTORS[@]}")

train_extractors() {
    local recipe options
    for recipe in "${RECIPES[@]}"; do
        say "extractor, recipe $recipe"
        read -ra options <<<"${RECIPE_OPTIONS[$recipe]}"
        python train_extractor.py --data "data/$DATASET" --dataset catalogue --size "$SIZE" --eps 8 \
            --gpu "$GPU" "${TRAINING[@]}" "${options[@]}" \
            --out "models/${DATASET}_$recipe/model_best.pth.tar"
    done
}

# The first pair that stage 2b suggests for the plain extractor.
choose_pair() {
    local plain=${DATASET}_plain options
    say "which category to attack"
    read -ra options <<<"${EXTRACTOR_OPTIONS[$plain]}"
    python classify_extract.py --dataset "$DATASET" --gpu "$GPU" "${options[@]}"
    python rec_generator.py --dataset "$DATASET" --gpu "$GPU" "${RECOMMENDER[@]}" \
        --experiment_name "${plain}_original" --seed "${SEEDS[@]}"
    read -r ORIGIN TARGET < <(
        python evaluate_rec.py --dataset "$DATASET" --metric chr --min_items 40 \
            --experiment_name "${plain}_original" |
            sed -n 's/.*--origin_class \([0-9]*\) --target_class \([0-9]*\).*/\1 \2/p' | sed 1q
    ) || fail "no two categories of 40 items: name them with --origin and --target"
    echo "category $ORIGIN, to look like $TARGET"
}

attack_rankings() {
    local extractor options
    for extractor in "${EXTRACTORS[@]}"; do
        say "rankings of $extractor under attack"
        read -ra options <<<"${EXTRACTOR_OPTIONS[$extractor]}"
        python attack_ranking.py --dataset "$DATASET" --gpu "$GPU" "${options[@]}" --profile rob224 \
            --no_nmi "${RANKING[@]}" --out "results/$DATASET/attack_ranking_$extractor.tsv"
    done
}

[ -z "$LABELS" ] || cp "$LABELS" "data/$DATASET/items.csv"
train_extractors
[ -n "$ORIGIN" ] || choose_pair
attack_rankings
classify_and_attack
recommend_clean
recommend_at_test_time
evaluate
