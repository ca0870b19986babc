#!/bin/bash
# Trains on several nodes of a SLURM cluster, one process for each node with all its GPUs.
#
#   CAPTURE=/scratch/me/capture BASE=/scratch/me/sd15 OUT=/scratch/me/avatar sbatch tools/launch/train_slurm.sh
#
# Flags of `svp train`, and further captures, after the script's name are passed on. CAPTURE, BASE, CONFIG and OUT must be
# the same folders on all nodes. 120 s before the time limit SLURM asks all to stop: they save, and the job is put into the queue again
# and goes on. Set partition, account, nodes and time here, or as sbatch's own flags.
#SBATCH --job-name=svp-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=svp-train-%j.log

set -u

: "${CAPTURE:?the folder that svp prepare made}"
: "${BASE:?the base: a folder, a single file, or tiny}"
: "${OUT:?the folder of the avatar}"
CONFIG=${CONFIG:-configs/sd15-multi.yaml}
VENV=${VENV:-.venv}
# Compiled programs, for later runs to load; beside the rest, as home folders are often small.
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$(dirname "$OUT")/cache}

# In the background, and waited for: the shell itself handles no signal while a command of the foreground runs. srun
# does not take the number of cores from sbatch.
srun --kill-on-bad-exit=0 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$VENV/bin/svp" train "$CAPTURE" --base "$BASE" --out "$OUT" --config "$CONFIG" \
    --device gpu "$@" &
step=$!
trap ':' TERM
wait "$step"
code=$?
# A signal ends the waiting, not what is waited for.
while kill -0 "$step" 2>/dev/null; do
    wait "$step"
    code=$?
done

# 143 is 128 + SIGTERM: stopped in order, all saved.
if [ "$code" -eq 143 ]; then
    echo "stopped before the time limit; goes on in the same job"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
