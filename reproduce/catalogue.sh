#!/usr/bin/env bash
# The same grid for a catalogue of your own and one ImageNet (or other) classifier.
#
#   bash reproduce/catalogue.sh --name N --images DIR --train FILE --test FILE \
#       --arch A --weights FILE --origin O --target T \
#       [--epochs 100] [--batch 512] [--lr 0.05] [--seeds "0 1 2"] [--gpu 0] [--cw "--max_it 1000"] \
#       [-- options of snakemake]
#
# DIR holds <item id>.jpg, the two TSV files hold user and item ids. It leaves data/N/,
# results/N/summary.tsv and results/N/report.html. What it runs stands in reproduce/studies/catalogue.yaml.
set -euo pipefail

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }

config=()
given=" "
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    [ "$1" != "-h" ] && [ "$1" != "--help" ] || { usage; exit 0; }
    [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
    case "$1" in
        --name) config+=(dataset="$2") ;;
        --images | --train | --test | --weights) config+=("${1#--}=$(printf %q "$(realpath "$2")")") ;;
        --arch | --origin | --target | --batch | --lr | --seeds | --gpu | --cw) config+=("${1#--}=$2") ;;
        --epochs) config+=(epoch="$2") ;;
        *) echo "error: unknown option $1 (see bash reproduce/catalogue.sh --help)" >&2; exit 2 ;;
    esac
    given+="$1 "
    shift 2
done
[ $# -eq 0 ] || shift
for needed in --name --images --train --test --arch --weights --origin --target; do
    [[ "$given" == *" $needed "* ]] || { echo "error: $needed is missing (see --help)" >&2; exit 2; }
done

exec bash "$(dirname "$0")/study.sh" catalogue --config "${config[@]}" "$@"
