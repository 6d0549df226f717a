#!/usr/bin/env bash
# Which defence holds on a catalogue against an attacker who knows it: entries of the leaderboard.
#
#   bash reproduce/defences.sh --name N --images DIR|images.npz --train FILE --test FILE [--items 40] \
#       [--eps "8"] [--budget small|full] [--entries "undefended jpeg50"|all] [--arch A] [--weights FILE] \
#       [--pictures OPTIONS] [--target T] [--reading OPTIONS] [--cores N] [--gpu N]
#
# DIR holds <item id>.jpg or .png, row i of x in images.npz is item i, and the two TSV files hold user and
# item ids. A catalogue with a file in leaderboard/catalogues/ needs no more; --arch, --weights, --pictures,
# --target and --reading replace what that file says: the undefended network, its weights (without them it
# is trained), the options of train_extractor.py that name labelled pictures (without them the entries that
# train on them are left out), the class of the class attack, and options of stages 1 and 3. Without --entries
# the small budget takes one of each kind, and the full one all (leaderboard/suite.yaml). On the photos of a
# catalogue without a file, the small budget fine-tunes extractors briefly: 5 passes over at most 500 of them.
# It takes about an hour on 2 cores for 3,000 photos at 224 pixels and the weights of a squeezenet1_1, or for 2,000
# images of 28 pixels and trainings of all networks.
# It leaves leaderboard/results/N/, results/N/defences.tsv and results/N/defences.md.
set -euo pipefail
source "$(dirname "$0")/options.sh"

read_options "name images train test items eps budget entries arch weights pictures target reading cores gpu" "$@"
require_options name images train test
[ ${#SNAKEMAKE[@]} = 0 ] || fail "it takes no options of snakemake: there is --cores"
DEVICE=0
[ "${OPTION[budget]:=small}" = full ] || DEVICE=-1
[[ "${OPTION[items]:-1}" =~ ^[1-9][0-9]*$ ]] || fail "--items must be a whole number"
for eps in ${OPTION[eps]:-}; do
    [[ "$eps" =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--eps holds grey levels, such as \"4 8\""
done
for name in images train test weights; do
    [ -z "${OPTION[$name]:-}" ] || OPTION[$name]=$(realpath -m "${OPTION[$name]}")
done

catalogue=() suite=() run=(--budget "${OPTION[budget]}" --gpu "${OPTION[gpu]:-$DEVICE}")
for name in arch weights pictures target reading; do
    [ -z "${OPTION[$name]:-}" ] || catalogue+=("$name=${OPTION[$name]}")
done
[ -z "${OPTION[items]:-}" ] || suite+=("items=${OPTION[items]}")
[ -z "${OPTION[eps]:-}" ] || suite+=("eps=${OPTION[eps]}")
[ ${#catalogue[@]} = 0 ] || run+=(--set "${catalogue[@]}")
[ ${#suite[@]} = 0 ] || run+=(--suite "${suite[@]}")
[ -z "${OPTION[cores]:-}" ] || run+=(--cores "${OPTION[cores]}")

source "$REPRODUCE/setup.sh" requirements.txt
N=${OPTION[name]}
python prepare_dataset.py folder --dataset "$N" --images "${OPTION[images]}" --train "${OPTION[train]}" --test "${OPTION[test]}"
# shellcheck disable=SC2086 # names of entries, one word each
python -m audits.leaderboard evaluate ${OPTION[entries]:-} --catalogue "$N" "${run[@]}"
python -m audits.leaderboard page --catalogue "$N" --out "results/$N/defences.md" --table "results/$N/defences.tsv"
