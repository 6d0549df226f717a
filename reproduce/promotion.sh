#!/usr/bin/env bash
# How far can an attacker push items in the lists: by a class, by scores, by ranks, beside noise.
#
#   bash reproduce/promotion.sh --name N --images DIR --train FILE --test FILE --arch A --weights FILE \
#       --origin O [--target T] [--items 64] [--eps "2 4 8"] [--budget full|small] [--seeds "0 1 2"] \
#       [--epochs 100] [--batch 512] [--lr 0.05] [--gpu 0] [-- options of snakemake]
#
# DIR holds <item id>.jpg, the two TSV files hold user and item ids. Of the items that the classifier takes
# for class O so many are attacked; T is the class that the class attack is after, by default the most
# recommended one. Attacks on lists are after VBPR (and on the largest eps after AMR too). full runs APGD of
# 100 steps; small runs 30 of them on the CPU. It leaves data/N/, results/N/promotion.tsv and
# results/N/report.html. What it runs stands in reproduce/studies/promotion.yaml.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "name images train test arch weights origin target items eps budget seeds epochs batch lr gpu" "$@"
require_options name images train test arch weights origin
BUDGET=${OPTION[budget]:-full} EPOCHS=${OPTION[epochs]:-100}
case "$BUDGET" in
    full) STEPS=100 ;;
    small) STEPS=30 OPTION[gpu]=${OPTION[gpu]:--1} ;;
    *) fail "--budget is full or small" ;;
esac
[[ "${OPTION[items]:=64}" =~ ^[1-9][0-9]*$ ]] || fail "--items must be a whole number"
entries name=dataset arch origin seeds epochs=epoch batch lr gpu
path_entries images train test weights

# entry_list NAME TEXT...: a list of texts.
entry_list() {
    local name=$1 texts=("${@:2}")
    ENTRIES+=("\"$name\": [$(printf '"%s",' "${texts[@]}" | sed 's/,$//')]")
}

attack_lists() {
    local eps largest=0 class=() lists=()
    for eps in ${OPTION[eps]:-2 4 8}; do
        [[ "$eps" =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--eps holds grey levels, such as \"2 4 8\""
        largest=$(printf '%s\n%s\n' "$largest" "$eps" | sort -g | tail -1)
    done
    local drawn="--items class:${OPTION[items]}"
    list_attack() { echo "--attack_type apgd --nb_iter $STEPS --eps $1 $drawn --score_epoch $EPOCHS --objective $2 --score_model $3"; }
    for eps in ${OPTION[eps]:-2 4 8}; do
        local retrained=("--attack_type noise --eps $eps $drawn" "--attack_type pgd --eps $eps $drawn"
            "$(list_attack "$eps" rank VBPR)")
        if [ "$eps" = "$largest" ]; then class+=("${retrained[@]}"); else lists+=("${retrained[@]}"); fi
    done
    for aim in score insa expa; do lists+=("$(list_attack "$largest" $aim VBPR)"); done
    lists+=("$(list_attack "$largest" rank AMR)" "--attack_type apgd --nb_iter $((2 * STEPS)) --eps $largest $drawn --score_epoch $EPOCHS --objective rank --score_model VBPR")
    entry_list attacks "${class[@]}"
    entry_list test_time_attacks "${lists[@]}"
}

# The class that the lists of the clean images hold most, and that is not the origin.
choose_target() {
    local given=("${ENTRIES[@]}") dry=" ${SNAKEMAKE[*]} "
    entry target $((OPTION[origin] == 0)) # nothing is attacked yet
    run_study promotion clean_lists
    ENTRIES=("${given[@]}")
    if [[ "$dry" =~ \ (-n|--dry-run|--dryrun)\  ]]; then
        echo "the target is chosen once these lists are there: name it with --target"
        exit
    fi
    OPTION[target]=$(
        source reproduce/setup.sh requirements.txt
        python evaluate_rec.py --dataset "${OPTION[name]}" --metric chr --topk 50 --model VBPR \
            --experiment_name original >/dev/null
        awk -F'\t' -v origin="${OPTION[origin]}" '
            NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
            $at["k"] == 20 && $at["classId"] != origin { print $at["classId"]; exit }
        ' "$(ls chr/"${OPTION[name]}"/original_top50_*VBPR*.tsv | head -1)"
    )
    echo "the class attack is after class ${OPTION[target]}, which is recommended most"
}

attack_lists
[ -n "${OPTION[target]:-}" ] || choose_target
entries target
run_study promotion
