#!/usr/bin/env bash
# Sets up .venv and runs the tests; further arguments go to pytest: bash run_tests.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")"
source reproduce/setup.sh requirements-dev.txt
python -m pytest "$@"
