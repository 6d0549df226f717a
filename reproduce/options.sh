# Options of the reproduction scripts, which become entries of a study. The scripts source this file.
#
#   read_options "dataset data short!" "$@"    --dataset D, --data PATH, --short; after -- those of snakemake
#   read_options "data+" "$@"                  --data PATH as often as wanted; the value has a line for each
#   entries dataset epochs=epoch               D becomes the entry dataset, the value of --epochs the entry epoch
#   path_entries data                          turns --data into an entry with an absolute path
#   run_study NAME                             runs reproduce/studies/NAME.yaml with these entries
#   choose_pair NAME --dataset D               sets origin and target to the classes that stage 2b suggests

declare -A OPTION=()
ENTRIES=() # members of a JSON object
SNAKEMAKE=()
REPRODUCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() { echo "error: $*" >&2; exit 2; }

# The comment at the head of the script.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

read_options() {
    local known name
    known=" $(tr -s "[:space:]" " " <<<"$1") "
    shift
    while [ $# -gt 0 ]; do
        case "$1" in
            -h | --help) usage; exit 0 ;;
            --) SNAKEMAKE=("${@:2}"); return ;;
        esac
        name=${1#--}
        if [[ "$1" == --* && "$known" == *" $name! "* ]]; then
            OPTION[$name]=1
            shift
            continue
        fi
        [[ "$1" == --* && ("$known" == *" $name "* || "$known" == *" $name+ "*) ]] ||
            fail "unknown option $1 (see bash $0 --help)"
        [ $# -ge 2 ] || fail "$1 needs a value"
        case "$name" in
            budget) [[ "$2" =~ ^(full|small)$ ]] || fail "--budget is full or small" ;;
            gpu) [[ "$2" =~ ^(-1|[0-9]+)$ ]] || fail "--gpu is the number of a GPU, or -1 for the CPU" ;;
        esac
        if [[ "$known" == *" $name+ "* ]]; then
            OPTION[$name]+=${OPTION[$name]:+$'\n'}$2
        else
            OPTION[$name]=$2
        fi
        shift 2
    done
}

require_options() {
    local name
    for name in "$@"; do
        [ -n "${OPTION[$name]:-}" ] || fail "--$name is missing (see bash $0 --help)"
    done
}

# entry NAME VALUE: a text.
entry() {
    local value=${2//\\/\\\\}
    ENTRIES+=("\"$1\": \"${value//\"/\\\"}\"")
}

entries() {
    local pair
    for pair in "$@"; do
        [ -z "${OPTION[${pair%=*}]:-}" ] || entry "${pair#*=}" "${OPTION[${pair%=*}]}"
    done
}

# As a word of a shell, which is how a study's entries name paths.
quoted_path() {
    local path end="'\\''"
    path=$(realpath -m "$1")
    printf "'%s'" "${path//\'/$end}"
}

path_entries() {
    local name
    for name in "$@"; do
        [ -z "${OPTION[$name]:-}" ] || entry "$name" "$(quoted_path "${OPTION[$name]}")"
    done
}

# Further arguments are targets, in place of the whole study.
run_study() {
    cd "$REPRODUCE/.."
    mkdir -p .snakemake
    STUDY_ENTRIES=$(mktemp -p .snakemake entries.XXXXXX.json)
    trap 'rm -f "$STUDY_ENTRIES"' EXIT
    (IFS=,; echo "{${ENTRIES[*]}}") >"$STUDY_ENTRIES"
    STUDY_ENTRIES=$STUDY_ENTRIES bash reproduce/study.sh "$@" "${SNAKEMAKE[@]}"
    rm "$STUDY_ENTRIES"
}

is_dry() { [[ " ${SNAKEMAKE[*]} " =~ \ (-n|--dry-run|--dryrun)\  ]]; }

# choose_pair STUDY OPTIONS...: the first pair that evaluate_rec.py with these options suggests for the clean
# lists of a study, which are made for this.
choose_pair() {
    local study=$1 given=("${ENTRIES[@]}") said suggested names
    entry origin 0 && entry target 1 # nothing is attacked yet
    run_study "$study" clean_lists
    ENTRIES=("${given[@]}")
    if is_dry; then
        echo "what is attacked is chosen once these lists are there: name it with --origin and --target"
        exit
    fi
    said=$(
        source reproduce/setup.sh requirements.txt
        python evaluate_rec.py --metric chr "${@:2}"
    )
    suggested=$(sed -n 's/.*--origin_class \([0-9]*\) --target_class \([0-9]*\) .*# \(.*\)/\1 \2 \3/p' <<<"$said")
    [ -n "$suggested" ] || fail "$(tail -n 1 <<<"$said"): name two of them with --origin and --target"
    read -r OPTION[origin] OPTION[target] names <<<"$suggested" # the first of them
    echo "classes ${OPTION[origin]} and ${OPTION[target]} are attacked: $names"
}
