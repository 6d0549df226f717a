#!/usr/bin/env bash
# Runs the missing jobs of a study, which is a file in reproduce/studies/.
#
#   bash reproduce/study.sh STUDY [options of snakemake]
#
#   --cores 8                              number of jobs at once on the CPU (default: one per core)
#   --dry-run --printshellcmds             print the commands, run nothing
#   --config epoch=10 seeds="0 1" gpu=-1   entries that replace those of the file
#   --forceall                             every stage compares its manifest, not only dates
#   --workflow-profile reproduce/profiles/slurm   submit the jobs to a cluster
#
# It may be killed and started again; do not run a study twice at once. STUDY_ENTRIES may name a
# JSON file of entries that replace those of the study; entries of --config replace both.
set -euo pipefail

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }

STUDY=${1:-}
case "$STUDY" in
    "") usage >&2; exit 2 ;;
    -h | --help) usage; exit 0 ;;
esac
shift

source "$(dirname "$0")/setup.sh" requirements.txt
FILE=reproduce/studies/$STUDY.yaml
[ -f "$FILE" ] || {
    echo "error: no study at $FILE: choose from $(basename -s .yaml reproduce/studies/*.yaml | xargs)" >&2
    exit 2
}
python -m reproduce.workflow.plain_files "$FILE" ${STUDY_ENTRIES:+"$STUDY_ENTRIES"}
# In a log a progress bar is written again and again: twice a minute is enough.
export TQDM_MININTERVAL=${TQDM_MININTERVAL:-30}
PROFILE=()
[[ " $* " =~ \ --(workflow-)?profile[\ =] ]] || mapfile -t PROFILE < <(python -m reproduce.workflow.profile)
# A kill leaves snakemake's lock behind; the verbs write whole files or none.
exec snakemake --snakefile reproduce/Snakefile --configfile "$FILE" ${STUDY_ENTRIES:+"$STUDY_ENTRIES"} \
    "${PROFILE[@]}" --nolock "$@"
