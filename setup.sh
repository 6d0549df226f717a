#!/usr/bin/env bash
# Makes .venv with everything that VAR needs. Every script calls it by itself where it is missing.
#
#   bash setup.sh             torch with CUDA where there is an NVIDIA GPU, else its CPU builds (4 GB less)
#   bash setup.sh --gpu       torch with CUDA
#   bash setup.sh --cpu       CPU builds
#   bash setup.sh --extras    also timm, open_clip, lime and SLURM (requirements-extras.txt)
#   bash setup.sh --dev       also what the tests need (requirements-dev.txt)
#
# PYTHON=/path/to/python chooses the Python (3.11, 3.12 or 3.13).
set -euo pipefail
here=$(dirname "$0")

builds=auto files=(requirements.txt)
for word in "$@"; do
    case "$word" in
        --gpu | --cpu) builds=${word#--} ;;
        --extras | --dev) files+=("requirements-${word#--}.txt") ;;
        -h | --help)
            sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
            exit
            ;;
        *)
            echo "error: unknown option $word (see bash setup.sh --help)" >&2
            exit 2
            ;;
    esac
done
for file in "${files[@]}"; do
    source "$here/reproduce/setup.sh" "$file" "$builds"
    here=.
done
echo "ready: source .venv/bin/activate"
