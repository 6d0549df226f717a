# Sourced by the reproduction scripts: the stages of the pipeline over a grid of
# extractors x attacks x recommenders. It only calls the verbs, and each of them skips what is already
# there, so running a script again continues where it was stopped.
#
# The caller sets
#   DATASET ORIGIN TARGET       the data set and the pair of classes
#   EXTRACTORS                  array: "original" and the folders of the defended models
#   EXTRACTOR_OPTIONS           associative array: the options that select each extractor
#   ATTACKS                     array: the options of each attack
#   RECOMMENDER                 array: further options of rec_generator.py
#   SUMMARY                     array, if need be: further options of summarize.py
#   SEEDS CONTROL_SEEDS         arrays: seeds of the attacked runs; of the clean retrainings beside them
#   GPU                         CUDA device, -1 for the CPU

say() { printf '\n== %s\n' "$*"; }

clean_experiment() { if [ "$1" = original ]; then echo original; else echo "$1_original"; fi; }

# The attacked experiments of one extractor that stand in the data set's folder.
attacked_experiments() {
    local prefix=""
    [ "$1" = original ] || prefix="$1_"
    (cd "data/$DATASET" && ls -d -- */) | tr -d / |
        grep -E "^${prefix}(fgsm|pgd|cw|ddn|spsa|noise)_${ORIGIN}_${TARGET}_"
}

# Stages 1, 3 and 5: classes and features, clean and attacked, success rate and feature loss.
classify_and_attack() {
    local extractor attack options
    for extractor in "${EXTRACTORS[@]}"; do
        say "stage 1, extractor $extractor"
        read -ra options <<<"${EXTRACTOR_OPTIONS[$extractor]}"
        python classify_extract.py --dataset "$DATASET" --gpu "$GPU" "${options[@]}"
    done
    for extractor in "${EXTRACTORS[@]}"; do
        for attack in "${ATTACKS[@]}"; do
            say "stages 3 and 5, extractor $extractor, $attack"
            read -ra options <<<"$attack ${EXTRACTOR_OPTIONS[$extractor]}"
            options+=(--dataset "$DATASET" --gpu "$GPU" --origin_class "$ORIGIN" --target_class "$TARGET")
            python classify_extract_attack.py "${options[@]}"
            python evaluate_attack.py "${options[@]}"
            python feature_loss.py "${options[@]}"
        done
    done
}

# The verb of stages 2 and 4 with what is common to all of its calls here.
generate_lists() {
    python rec_generator.py --dataset "$DATASET" --gpu "$GPU" --model VBPR AMR "${RECOMMENDER[@]}" "$@"
}

# Stage 2: lists before the attacks.
recommend_clean() {
    local extractor clean=()
    for extractor in "${EXTRACTORS[@]}"; do
        clean+=("$(clean_experiment "$extractor")")
    done
    say "stage 2, recommendations before the attacks"
    generate_lists --experiment_name "${clean[@]}" --seed "${SEEDS[@]}" "${CONTROL_SEEDS[@]}"
}

# Stage 4 as published: lists after the attacks, of recommenders that learnt from what was attacked.
recommend_retrained() {
    local extractor attacked=() of_extractor
    for extractor in "${EXTRACTORS[@]}"; do
        mapfile -t of_extractor < <(attacked_experiments "$extractor" | grep -v "noise_")
        attacked+=("${of_extractor[@]}")
    done
    say "stage 4, recommenders retrained on attacked features"
    generate_lists --experiment_name "${attacked[@]}" --seed "${SEEDS[@]}"
}

# Stage 4 as an attacker meets it: lists of the recommenders that are already there.
recommend_at_test_time() {
    local extractor of_extractor
    for extractor in "${EXTRACTORS[@]}"; do
        say "stage 4, recommenders of the clean features at test time, extractor $extractor"
        mapfile -t of_extractor < <(attacked_experiments "$extractor")
        generate_lists --experiment_name "${of_extractor[@]}" \
            --load_weights_from "$(clean_experiment "$extractor")" --seed "${SEEDS[@]}"
    done
}

# Stage 2b and the summary table.
evaluate() {
    say "stage 2b, every list"
    mkdir -p "results/$DATASET"
    python evaluate_rec.py --dataset "$DATASET" --metric all --origin "$ORIGIN" \
        >"results/$DATASET/evaluation.txt"
    echo "tables: results/$DATASET/evaluation.txt, chr/$DATASET/, ncdcg/$DATASET/, accuracy/$DATASET/, bias/$DATASET/"
    say "summary"
    python summarize.py --dataset "$DATASET" "${SUMMARY[@]}"
}

run_grid() {
    classify_and_attack
    recommend_clean
    recommend_retrained
    recommend_at_test_time
    evaluate
}
