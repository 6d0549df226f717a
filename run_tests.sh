#!/usr/bin/env bash
# Sets up .venv and runs the tests. Other arguments go to pytest.
#
#   bash run_tests.sh                  all tests
#   bash run_tests.sh -m "not slow"    without those of more than 20 seconds
#   bash run_tests.sh --any-machine    the numerical tests, under settings that stand for other processors
#   bash run_tests.sh --faults         damage every artifact, call every script wrongly, kill, and print the figures
set -euo pipefail
cd "$(dirname "$0")"
source reproduce/setup.sh requirements-dev.txt
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # the tests' networks are too small to share out
# tests/conftest.py has the order of the files
PARALLEL=(--numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
if [ "${1:-}" = --any-machine ]; then
    shift
    exec python -m tests.any_machine "${PARALLEL[@]}" "$@"
fi
if [ "${1:-}" = --faults ]; then
    shift
    exec python -m tests.faults "$@"
fi
python -m pytest "${PARALLEL[@]}" "$@"
