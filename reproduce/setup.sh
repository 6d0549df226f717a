# Scripts that need Python source this file, which makes .venv once and activates it.
# usage: source reproduce/setup.sh [requirements file]

cd "$(dirname "${BASH_SOURCE[0]}")/.."

_find_python() {
    local candidate
    for candidate in "${PYTHON:-python3.12}" python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11 or 3.12 is needed; name it with PYTHON=/path/to/python" >&2
    return 2
}

_install() {
    local requirements=$1 stamp=.venv/.installed-$1
    [ -d .venv ] || "$(_find_python)" -m venv .venv
    if ! cat requirements.txt "$requirements" | cmp -s - "$stamp"; then
        echo "installing $requirements into .venv (about 8 GB, a few minutes)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
        cat requirements.txt "$requirements" >"$stamp"
    fi
}

_find_python >/dev/null || exit 2
_install "${1:-requirements.txt}"
source .venv/bin/activate
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
