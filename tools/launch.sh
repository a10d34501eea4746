#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run one Python script in N processes, here or through Slurm: launch.sh N script.py arguments...
# local/cmd.sh says where, and how many GPUs a node has. One process runs plainly; several go through torchrun (gloo,
# beside it NCCL on GPUs) and share the cores. Exit code 75 means "stopped by a signal with everything saved; try again
# later": here it is handed on; a Slurm job has itself queued again, on that code and on no other, whether or not anyone
# still waits for it.
set -euo pipefail

die() {
  echo "error: launch.sh: $1" >&2
  exit 2
}
[ $# -ge 2 ] && [[ $1 =~ ^[1-9][0-9]*$ ]] || die "usage: launch.sh NUM_PROCESSES script.py arguments..."
num_processes=$1
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
launcher=here gpus_per_node=8 seconds_to_save=180 slurm_options=()
# shellcheck source=local/cmd.sh
[ ! -f "$root/local/cmd.sh" ] || . "$root/local/cmd.sh"
launcher=${ALP_LAUNCHER:-$launcher}

# A job of several processes on this node. Its signals go to the workers, which save and leave with 75; torchrun, which
# would allow them 30 seconds and report 1, gets none, so the workers leave word in a file.
torchrun_here() {
  local pid status
  ALP_STATUS_FILE=$(mktemp)
  export ALP_STATUS_FILE
  trap 'rm -f "$ALP_STATUS_FILE"' EXIT
  trap '' USR1 # Slurm may send it to every process; workers listen all the same
  ${die_with_parent[@]+"${die_with_parent[@]}"} python3 -m torch.distributed.run "$@" &
  pid=$!
  trap 'pkill -TERM -P "$pid" || true' TERM
  trap 'pkill -USR1 -P "$pid" || true' USR1
  while true; do
    status=0
    wait "$pid" || status=$?
    kill -0 "$pid" 2>/dev/null || break # a trapped signal ends `wait`, not the job
  done
  if [ "$status" -ne 0 ] && [ -s "$ALP_STATUS_FILE" ]; then
    status=$(cat "$ALP_STATUS_FILE")
  fi
  exit "$status"
}

# Submit the same command as a job and wait for it.
through_slurm() {
  local nodes words
  nodes=$(((num_processes + gpus_per_node - 1) / gpus_per_node))
  [ "$nodes" = 1 ] || [ $((num_processes % nodes)) = 0 ] ||
    die "$num_processes processes do not fill $nodes nodes evenly; take a multiple of $gpus_per_node"
  printf -v words ' %q' "$root/tools/launch.sh" "$num_processes" "$@"
  exec sbatch --wait --nodes="$nodes" --ntasks-per-node=1 --gpus-per-node="$((num_processes / nodes))" --requeue \
    --open-mode=append --signal="USR1@$seconds_to_save" ${slurm_options[@]+"${slurm_options[@]}"} <<END
#!/usr/bin/env bash
export ALP_LAUNCHER=node ALP_MASTER=\$(scontrol show hostnames "\$SLURM_JOB_NODELIST" | head -n 1)
status=0
srun --kill-on-bad-exit=0$words || status=\$?
[ "\$status" != 75 ] || scontrol requeue "\$SLURM_JOB_ID"
exit "\$status"
END
}

nodes=${SLURM_NNODES:-1}
[ "$launcher" = node ] || nodes=1
on_node=$((num_processes / nodes))
if [ "$launcher" != slurm ]; then # the cores of the machine that runs it, not of the one that submits it
  cores=$(nproc)
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > on_node ? cores / on_node : 1))}
fi
die_with_parent=()
if command -v setpriv >/dev/null; then
  die_with_parent=(setpriv --pdeathsig KILL)
fi
case $launcher in
  slurm) through_slurm "$@" ;;
  here | node)
    if [ "$num_processes" = 1 ]; then
      exec python3 "$@"
    elif [ "$nodes" = 1 ]; then
      torchrun_here --standalone --nproc-per-node "$num_processes" "$@"
    else
      torchrun_here --nnodes "$nodes" --node-rank "$SLURM_NODEID" --nproc-per-node "$on_node" \
        --master-addr "$ALP_MASTER" --master-port "$((20000 + SLURM_JOB_ID % 20000))" "$@"
    fi
    ;;
  *) die "launcher is '$launcher'; use here or slurm (in local/cmd.sh)" ;;
esac
