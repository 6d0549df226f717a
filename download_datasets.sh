#!/usr/bin/env bash
# Downloads the data sets of the published studies into data/.
#
#   bash download_datasets.sh [amazon_men] [amazon_women] [tradesy] [movielens-500]   (default: all)
#
# The first three come in one archive, which may also be put by hand at data/var_datasets.zip. An
# interrupted download continues where it stopped, and what is there already is left alone. Other
# addresses: VAR_ARCHIVE_URL=... and VAR_MOVIELENS_URL=... (the folder of its two files).
set -euo pipefail
cd "$(dirname "$0")"

ARCHIVE=data/var_datasets.zip
ARCHIVE_PAGE="https://drive.google.com/file/d/1_daGmkBRqv5z201rNUAW1R3C29rPqBEL/view"
ARCHIVE_URL=${VAR_ARCHIVE_URL:-"https://drive.usercontent.google.com/download?id=1_daGmkBRqv5z201rNUAW1R3C29rPqBEL&export=download&confirm=t"}
MOVIELENS_URL=${VAR_MOVIELENS_URL:-"https://raw.githubusercontent.com/sisinflab/HandsOn-ECIR2021/1c6763a0d55b572645c1f84f83bf14701a327135/data/movielens-500"}
declare -A MOVIELENS_SHA256=(
    [trainingset.tsv]=2fd473f67e4d3d0e49bdc2074ac38ec4ff76bce2e7880c74bf6e363b95a2ed90
    [testset.tsv]=b23e69d97e8929c1a1d1cf13564313e5e6324cdb0abb8f65e21fd16000247ed7
)

fail() { echo "error: $*" >&2; exit 2; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-.venv/bin/python}" python3.12 python3.11 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or later is needed; name it with PYTHON=/path/to/python"
}

# fetch URL FILE: continue FILE.part, and rename it when it is whole. Fails with curl's exit code.
fetch() {
    local url=$1 file=$2 attempt status
    local progress=(--silent)
    [ ! -t 2 ] || progress=(--progress-bar)
    mkdir -p "$(dirname "$file")"
    for attempt in 1 2; do
        status=0
        curl --fail --location "${progress[@]}" --retry 4 --retry-delay 2 \
            --connect-timeout 30 --continue-at - --output "$file.part" "$url" || status=$?
        # curl calls it a success when the server has nothing beyond the part (416): it was whole.
        if [ "$status" -eq 0 ] && [ -s "$file.part" ]; then
            mv "$file.part" "$file"
            return
        fi
        # 33, 36: the server cannot continue this file. Any other failure keeps the part for later.
        if [ "$status" -eq 33 ] || [ "$status" -eq 36 ]; then
            rm -f "$file.part"
        else
            break
        fi
    done
    return $((status ? status : 1))
}

get_movielens() {
    local name file folder=data/movielens-500
    for name in trainingset.tsv testset.tsv; do
        file=$folder/$name
        if [ ! -f "$file" ]; then
            fetch "$MOVIELENS_URL/$name" "$file" || fail \
                "cannot download $MOVIELENS_URL/$name (curl exit code $?):" \
                "put the file at $file by hand (it is part of github.com/sisinflab/HandsOn-ECIR2021)"
        fi
        if ! echo "${MOVIELENS_SHA256[$name]}  $file" | sha256sum --check --status; then
            mv "$file" "$file.wrong"
            fail "$file has the wrong checksum (kept as $file.wrong): run again, or get it by hand" \
                "from github.com/sisinflab/HandsOn-ECIR2021"
        fi
    done
    echo "data set at $folder"
}

get_published() {
    local name missing=()
    for name in "$@"; do
        if [ -d "data/$name/original/images" ] && [ -f "data/$name/trainingset.tsv" ]; then
            echo "data set at data/$name is there already"
        else
            missing+=("$name")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ ! -f "$ARCHIVE" ]; then
        echo "downloading the paper's archive to $ARCHIVE"
        fetch "$ARCHIVE_URL" "$ARCHIVE" || fail \
            "cannot download the paper's archive (curl exit code $?): get it by hand from" \
            "$ARCHIVE_PAGE, put it at $ARCHIVE and run this again"
        if head -c 200 "$ARCHIVE" | grep -qi '<html\|<!doctype'; then
            rm "$ARCHIVE"
            fail "the link to the paper's archive gave a web page: get the archive by hand from" \
                "$ARCHIVE_PAGE, put it at $ARCHIVE and run this again"
        fi
    fi
    "$PYTHON" -m src.datasets.archive "$ARCHIVE" data "${missing[@]}" || exit 2
    for name in "${missing[@]}"; do
        for needed in trainingset.tsv testset.tsv original/images; do
            [ -e "data/$name/$needed" ] || fail "the archive has no $name/$needed: put it at data/$name/$needed"
        done
    done
    echo "$ARCHIVE is no longer needed"
}

names=("$@")
[ $# -gt 0 ] || names=(amazon_men amazon_women tradesy movielens-500)
published=()
for name in "${names[@]}"; do
    case "$name" in
        amazon_men | amazon_women | tradesy) published+=("$name") ;;
        movielens-500) ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "unknown data set $name (see bash download_datasets.sh --help)" ;;
    esac
done
PYTHON=$(find_python)
for name in "${names[@]}"; do
    mkdir -p "data" "rec_results/$name" "rec_model_weights/$name" {chr,ncdcg,accuracy,bias}/"$name"
    [ "$name" != movielens-500 ] || get_movielens
done
[ ${#published[@]} -eq 0 ] || get_published "${published[@]}"
