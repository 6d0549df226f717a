#!/usr/bin/env bash
# Sets up .venv and runs the tests; further arguments go to pytest: bash run_tests.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")"
source reproduce/setup.sh requirements-dev.txt
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # the tests' networks are too small to share out
python -m pytest "$@"
