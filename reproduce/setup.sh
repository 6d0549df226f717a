# Scripts that need Python source this file, which makes .venv once and activates it.
# usage: source reproduce/setup.sh [requirements file [auto|cpu|gpu]]
#
# auto: builds of torch without CUDA where there is no NVIDIA GPU and PyTorch's index can be reached.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

CPU_INDEX=${CPU_INDEX:-https://download.pytorch.org/whl/cpu} # torch's builds without CUDA

_suits() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' 2>/dev/null
}

_find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        _suits "$PYTHON" && echo "$PYTHON" && return
        echo "error: PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13" >&2
        return 2
    fi
    for candidate in python3.12 python3.11 python3.13 python3; do
        _suits "$candidate" && echo "$candidate" && return
    done
    echo "error: Python 3.11, 3.12 or 3.13 is needed; name it with PYTHON=/path/to/python" >&2
    return 2
}

_reachable() {
    "$1" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' \
        "$CPU_INDEX/torch/" 2>/dev/null
}

_install() {
    local requirements=$1 builds=$2 stamp=.venv/.installed-$1 python size="7 GB" index=() pip wanted
    python=$(_find_python) || return 2
    [ -d .venv ] || "$python" -m venv .venv
    cat requirements.txt "$requirements" | cmp -s - "$stamp" && return
    if [ "$builds" = auto ]; then
        builds=cpu
        ! command -v nvidia-smi >/dev/null || builds=gpu
    fi
    if [ "$builds" = cpu ]; then
        if _reachable "$python"; then
            index=(--extra-index-url "$CPU_INDEX") size="3 GB"
        else
            echo "PyTorch's index of CPU builds cannot be reached: torch comes with CUDA, which takes 4 GB more"
        fi
    fi
    [ -t 1 ] || index+=(--quiet)
    echo "installing $requirements into .venv ($size, 3 to 10 minutes)"
    pip=(.venv/bin/python -m pip install --disable-pip-version-check "${index[@]}")
    wanted=$(cat requirements.txt "$requirements" | grep -v '^-r ' | sort -u)
    "${pip[@]}" -r <(grep -v '^cleverhans' <<<"$wanted") || return 2
    # Its attacks on torch need none of what it requires beside that: nose, mnist, tensorflow-probability, ...
    "${pip[@]}" --no-deps -r <(grep '^cleverhans' <<<"$wanted" || true) || return 2
    cat requirements.txt "$requirements" >"$stamp"
}

_install "${1:-requirements.txt}" "${2:-auto}" || exit 2
source .venv/bin/activate
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
