#!/usr/bin/env bash
# How far can an attacker push items in the lists: by a class, by scores, by ranks, beside noise.
#
#   bash reproduce/promotion.sh --name N --images DIR --train FILE --test FILE --arch A --weights FILE \
#       --origin O [--target T] [--items 64] [--eps "2 4 8"] [--budget full|small] [--threats "jpeg ranks"] \
#       [--queries "100 1000"] [--few 8] [--surrogate ARCH:WEIGHTS]... [--seeds "0 1 2"] [--epochs 100] \
#       [--batch 512] [--lr 0.05] [--gpu 0] [-- options of snakemake]
#
# DIR holds <item id>.jpg, the two TSV files hold user and item ids. Of the items that the classifier takes
# for class O so many are attacked; T is the class that the class attack is after, by default the most
# recommended one. Attacks on lists are after VBPR (and on the largest eps after AMR too) and take 100 steps
# (full), or 30 on the CPU (small). It leaves data/N/, results/N/promotion.tsv and results/N/report.html. What
# it runs is reproduce/studies/promotion.yaml.
#
# The attacker knows everything; the other seeds of the recommender rank what was attacked on the first one,
# and recommenders are retrained on the attacked images. On the largest eps he may also know less:
#
#   --threats jpeg     images are stored as JPEG of quality 75 and 95 before they are looked at, and he knows
#                      this or not
#   --threats ranks    he asks at which places his items stand, by Square and NES, --queries times (small:
#                      100 and 1000, full: 5000 too) for each of --few items
#   --surrogate A:W    he has another network, of architecture A with the weights W, in place of this one;
#                      both networks judge what was attacked on the other one
#
# "--threats none" leaves out both of the first two, which are the default.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "name images train test arch weights origin target items eps budget threats queries few
    surrogate+ seeds epochs batch lr gpu" "$@"
require_options name images train test arch weights origin
BUDGET=${OPTION[budget]:-full} EPOCHS=${OPTION[epochs]:-100}
case "$BUDGET" in
    full) STEPS=100 QUERIES=${OPTION[queries]:-100 1000 5000} ;;
    small) STEPS=30 QUERIES=${OPTION[queries]:-100 1000} OPTION[gpu]=${OPTION[gpu]:--1} ;;
esac
for number in items few; do
    [[ "${OPTION[$number]:-1}" =~ ^[1-9][0-9]*$ ]] || fail "--$number must be a whole number"
done
[[ "$QUERIES" =~ ^[1-9][0-9]*(\ [1-9][0-9]*)*$ ]] || fail "--queries holds numbers, such as \"100 1000\""
THREATS=" ${OPTION[threats]:-jpeg ranks} "
for threat in $THREATS; do
    [[ "$threat" =~ ^(jpeg|ranks|none)$ ]] || fail "--threats holds jpeg, ranks or none, not $threat"
done
declare -A SURROGATES=() # weights by architecture
while IFS= read -r surrogate; do
    [ -n "$surrogate" ] || continue
    architecture=${surrogate%%:*} file=${surrogate#*:}
    [[ "$surrogate" == *:* && -f "$file" ]] || fail "--surrogate $surrogate: it is ARCH:WEIGHTS with a file"
    [ "$architecture" != "${OPTION[arch]}" ] && [ -z "${SURROGATES[$architecture]:-}" ] ||
        fail "--surrogate $surrogate: $architecture is there already"
    SURROGATES[$architecture]=$(quoted_path "$file")
done <<<"${OPTION[surrogate]:-}"
entries name=dataset origin seeds epochs=epoch batch lr gpu
path_entries images train test
LOOKING="--defence 0 --arch ${OPTION[arch]} --model_file $(quoted_path "${OPTION[weights]}")"
entry looking "$LOOKING"

# entry_list NAME TEXT...: a list of texts.
entry_list() {
    local name=$1 texts=("${@:2}")
    ENTRIES+=("\"$name\": [$(printf '"%s",' "${texts[@]//\"/\\\"}" | sed 's/,$//')]")
}

LARGEST=0
for eps in ${OPTION[eps]:=2 4 8}; do
    [[ "$eps" =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--eps holds grey levels, such as \"2 4 8\""
    LARGEST=$(printf '%s\n%s\n' "$LARGEST" "$eps" | sort -g | tail -1)
done
DRAWN="--items class:${OPTION[items]:-64}"
noise() { echo "--attack_type noise --eps $1 $2"; }
scored_by() { echo "--objective $1 --score_model $2 --score_epochs $EPOCHS"; }
# list_attack EPS ITEMS OBJECTIVE MODEL
list_attack() { echo "--attack_type annealed --steps $STEPS --eps $1 $2 $(scored_by "$3" "$4")"; }

# The attacks of the given extractor. The first three, within the largest eps, are noise, the class attack
# and the rank attack.
attack_lists() {
    local eps largest=() others=()
    for eps in ${OPTION[eps]}; do
        local retrained=("$(noise "$eps" "$DRAWN")" "--attack_type pgd --eps $eps $DRAWN"
            "$(list_attack "$eps" "$DRAWN" rank VBPR)")
        if [ "$eps" = "$LARGEST" ]; then largest+=("${retrained[@]}"); else others+=("${retrained[@]}"); fi
    done
    for aim in score insa expa; do others+=("$(list_attack "$LARGEST" "$DRAWN" $aim VBPR)"); done
    others+=("$(list_attack "$LARGEST" "$DRAWN" rank AMR)"
        "--attack_type annealed --steps $((2 * STEPS)) --eps $LARGEST $DRAWN $(scored_by rank VBPR)")
    [ "$BUDGET" = small ] || others+=("$(list_attack "$LARGEST" "$DRAWN" rank VBPR) --restarts 5")
    entry_list attacks "${largest[@]}"
    entry_list test_time_attacks "${others[@]}"
}

# The class that the lists of the clean images hold most, and that is not the origin.
choose_target() {
    local given=("${ENTRIES[@]}")
    entry target $((OPTION[origin] == 0)) # nothing is attacked yet
    run_study promotion clean_lists
    ENTRIES=("${given[@]}")
    if is_dry; then
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

# names_of: runs the attacks of the entries, prints the names of their experiments.
names_of() { run_study promotion attacked | grep -E '^[A-Za-z0-9_.+-]+_eps[A-Za-z0-9_.+-]+$'; }

# through EXTRACTOR OPTIONS ATTACK...: runs attacks on VBPR through one extractor, prints their names.
through() {
    (
        entry extractor "$1"
        entry looking "$2"
        entry_list attacks "${@:3}"
        ENTRIES+=('"test_time_attacks": []')
        [ "$1" = original ] || entry_list recommenders VBPR
        names_of
    )
}

# given NAME...: the images of other extractors' experiments.
given() {
    local name
    for name in "$@"; do
        if [[ "$name" == *_rank_* ]]; then
            echo "--attack_type given --images_from $name --eps $LARGEST $(scored_by rank VBPR)"
        else
            echo "--attack_type given --images_from $name --eps $LARGEST"
        fi
    done
}

attack_with_less() {
    local own items quality arch other queries attacks
    declare -A of_surrogate=()
    own=$(names_of)
    mapfile -t own <<<"$own"
    items=data/${OPTION[name]}/attacked_items.txt
    tail -n +2 "data/${OPTION[name]}/${own[0]}/attack.tsv" | cut -f1 >"$items"
    items="--items $items"

    if [[ "$THREATS" == *" jpeg "* ]]; then
        for quality in 75 95; do
            attacks=("$(noise "$LARGEST" "$items")" "$(list_attack "$LARGEST" "$items" rank VBPR)")
            through jpeg-quality$quality "$LOOKING --preprocess jpeg:quality=$quality" \
                "${attacks[@]}" "${attacks[1]} --unaware" >/dev/null
        done
    fi
    if [[ "$THREATS" == *" ranks "* ]]; then
        local few="--items class:${OPTION[few]:-8}"
        attacks=("$(noise "$LARGEST" "$few")" "$(list_attack "$LARGEST" "$few" rank VBPR)")
        for queries in $QUERIES; do
            attacks+=("--attack_type square --queries $queries --eps $LARGEST $few $(scored_by rank VBPR)")
            [ "$queries" -le 64 ] || # a step of NES asks 65 times
                attacks+=("--attack_type nes --queries $queries --eps $LARGEST $few $(scored_by rank VBPR)")
        done
        through original "$LOOKING" "${attacks[@]}" >/dev/null
    fi
    surrogate() { echo "--defence 1 --model_dir $1 --arch $1 --model_file ${SURROGATES[$1]}"; }
    for arch in "${!SURROGATES[@]}"; do
        of_surrogate[$arch]=$(through "$arch" "$(surrogate "$arch")" \
            "$(noise "$LARGEST" "$items")" "$(list_attack "$LARGEST" "$items" rank VBPR)")
    done
    for arch in "${!SURROGATES[@]}"; do
        mapfile -t attacks < <(given ${of_surrogate[$arch]})
        through original "$LOOKING" "${attacks[@]}" >/dev/null
        local others=("${own[0]}" "${own[2]}")
        for other in "${!SURROGATES[@]}"; do
            [ "$other" = "$arch" ] || others+=(${of_surrogate[$other]})
        done
        mapfile -t attacks < <(given "${others[@]}")
        through "$arch" "$(surrogate "$arch")" "${attacks[@]}" >/dev/null
    done
}

attack_lists
[ -n "${OPTION[target]:-}" ] || choose_target
entries target
if [ "$THREATS" = " none " ] && [ ${#SURROGATES[@]} -eq 0 ]; then
    run_study promotion
elif is_dry; then
    run_study promotion
    echo "attackers who know less take these images: their attacks are not in this dry run"
else
    cd "$REPRODUCE/.."
    attack_with_less
    run_study promotion --forcerun promotion
fi
