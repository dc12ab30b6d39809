#!/bin/bash
# One experiment for each task of an array: the files experiments/*.toml, in their order.
#   sbatch --array=0-7 examples/batch/slurm.sh
# A task that was stopped (time limit, preemption) is given again and goes on where it was.
#SBATCH --job-name=recil
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:INT@120
#SBATCH --output=recil-%A-%a.log
set -u

files=(${RECIL_FILES:-experiments/*.toml})
file=${files[${SLURM_ARRAY_TASK_ID:-0}]:-}
if [ -z "$file" ]; then
    echo "task ${SLURM_ARRAY_TASK_ID:-0}: there are only ${#files[@]} files" >&2
    exit 2
fi

# Many tasks write at once: a server is the store for that (docs/batch.md). The work folder is on the shared disk.
: "${MLFLOW_TRACKING_URI:?the address of an MLflow server, http://host:5000}"
export OMP_NUM_THREADS=1 MLFLOW_TRACKING_URI

recil run "$file" --work "${RECIL_WORK:-.recil}" --jobs "${SLURM_CPUS_PER_TASK:-1}" --quiet --format csv &
job=$!
trap 'kill -INT $job' INT TERM # two minutes before the limit: its runs are marked as broken off
wait $job
code=$?
trap - INT TERM
if kill -0 $job 2>/dev/null; then # the signal ended the waiting, not the job
    wait $job
    code=$?
fi

if [ "$code" -eq 130 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
