#!/usr/bin/env bash
# How far can items of your own shop be pushed, and does a defence stop it?
#
#   bash reproduce/catalogue.sh --name N --images DIR --interactions FILE [--categories FILE] [--quick] [--force]
#       [--weights imagenet|FILE] [--arch A] [--resize SIDE] [--origin O --target T] [--items N]
#       [--budget full|small] [--seeds "0 1 2"] [--epochs 100] [--batch 512] [--lr 0.05] [--gpu N]
#       [-- options of snakemake]
#
# DIR holds <item id>.jpg or .png. The interactions (orders, clicks) are a table in UTF-8 with a header such as
# customer_id,product_id,date, the date like 2026-07-14 (it may be missing); each user's newest row is held out.
# --train FILE --test FILE are a split of your own. --categories is a table of item and category: then the classes
# are the shop's own, and O and T their names. Without it the classes are the network's, and O and T their numbers.
# Without O and T the class that is recommended least has to look like the one that is recommended most, among
# classes of ten items.
#
# The undefended network (resnet50 with ImageNet weights at 224 pixels, or A with the weights FILE at the size
# that it records or --resize says) is compared with JPEG of quality 75 in front of it and with two copies that
# are fine-tuned on DIR, by FARE and by Free-AT; --quick leaves out both. Within 8/255, all items of O (or
# --items of them) are changed by noise, by an attack on the class and by one on the ranks of VBPR, both of which
# know the defence. full is for a GPU and also retrains the recommenders on the attacked images. small is for a
# CPU: it tunes briefly, on at most 500 photos, which says little of a full tuning. resnet50 computes ten times as
# much as squeezenet1_1. Before the first job, in a dry run too, the input is checked and data/N/ made; --force
# replaces data/N/ and its results by those of other input. It leaves results/N/summary.tsv,
# results/N/promotion.tsv and results/N/report.html, which opens with a verdict. The study is
# reproduce/studies/catalogue.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "name images interactions train test categories quick! force! weights arch resize origin target items
    budget seeds epochs batch lr gpu" "$@"
require_options name images
if [ -z "${OPTION[interactions]:-}" ]; then
    [ "${OPTION[train]:-}" ] || [ "${OPTION[test]:-}" ] || fail "--interactions is missing (see bash $0 --help)"
    require_options train test
fi
[ "${OPTION[origin]+given}" = "${OPTION[target]+given}" ] || fail "--origin and --target belong together"
for number in items resize; do
    [[ "${OPTION[$number]:-1}" =~ ^[1-9][0-9]*$ ]] || fail "--$number must be a whole number"
done
: "${OPTION[gpu]:=$(command -v nvidia-smi >/dev/null && echo 0 || echo -1)}"
: "${OPTION[budget]:=$([ "${OPTION[gpu]}" = -1 ] && echo small || echo full)}"
WEIGHTS=${OPTION[weights]:-imagenet} START=imagenet
if [ "$WEIGHTS" = imagenet ]; then
    NETWORK="--arch ${OPTION[arch]:=resnet50}"
    : "${OPTION[resize]:=224}"
else
    [ -f "$WEIGHTS" ] || fail "--weights $WEIGHTS: there is no such file"
    START=$(quoted_path "$WEIGHTS")
    NETWORK="${OPTION[arch]:+--arch ${OPTION[arch]} }--model_file $START"
fi
entries name=dataset budget epochs=epoch batch lr seeds gpu
entry network "$NETWORK${OPTION[resize]:+ --resize ${OPTION[resize]}}"
if [ -n "${OPTION[quick]:-}" ]; then
    entry defences quick
else
    entry start "--pretrained $START${OPTION[arch]:+ --arch ${OPTION[arch]}}${OPTION[resize]:+ --size ${OPTION[resize]}}"
fi
[ -z "${OPTION[items]:-}" ] || entry origin_items "--items class:${OPTION[items]}"
[ -z "${OPTION[seeds]:-}" ] || entry score_seed "${OPTION[seeds]%% *}"
EXPERIMENT=original
if [ -n "${OPTION[categories]:-}" ]; then
    entry classes shop
    EXPERIMENT=means_original
fi

TABLES=()
for name in images interactions train test categories; do
    [ -z "${OPTION[$name]:-}" ] || TABLES+=("--$name" "$(realpath -m "${OPTION[$name]}")")
done
source "$REPRODUCE/setup.sh" requirements.txt
python prepare_dataset.py folder --dataset "${OPTION[name]}" "${TABLES[@]}" ${OPTION[force]:+--force}
[ -n "${OPTION[origin]:-}" ] ||
    choose_pair catalogue --dataset "${OPTION[name]}" --experiment_name $EXPERIMENT --model VBPR --topk 50
entries origin target
run_study catalogue
