#!/usr/bin/env bash
# The main job on a generated catalogue: nothing to download, about seven minutes on two CPU cores.
#
#   bash reproduce/demo.sh
#
# It draws a catalogue and its users, trains two extractors (undefended and Free-AT), attacks the images
# of an unpopular class so that they look like a popular one, and ends with results/demo/summary.tsv.
set -euo pipefail

[ $# -eq 0 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0; }

source "$(dirname "$0")/setup.sh"
source reproduce/grid.sh
DATASET=demo ORIGIN=0 TARGET=1 GPU=-1
use_seeds "0 1 2"
EXTRACTORS=(original free_adv)
declare -A EXTRACTOR_OPTIONS=(
    [original]="--defense 0 --model_file models/plain/demo.pt"
    [free_adv]="--defense 1 --model_dir free_adv --model_file demo.pt"
)
ATTACKS=("${PAPER_ATTACKS[@]/--attack_type cw/--attack_type cw --max_it 100}")
RECOMMENDER=(--epoch 100 --lr 0.05)

say "the catalogue"
python prepare_dataset.py demo
for recipe in plain free; do
    say "extractor, recipe $recipe"
    folder=${recipe/free/free_adv}
    python train_extractor.py --recipe "$recipe" --images data/demo/extractor/images \
        --labels data/demo/extractor/labels.csv --arch resnet18 --out "models/$folder/demo.pt" --gpu -1
done
run_grid
