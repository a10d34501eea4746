#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run one Python script in N processes on this machine: launch.sh N script.py arguments...
# One process runs plainly; several go through torchrun (NCCL on GPUs, gloo on CPUs) and share the cores.
set -euo pipefail
if [ $# -lt 2 ] || [[ ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "error: launch.sh: usage: launch.sh NUM_PROCESSES script.py arguments..." >&2
  exit 2
fi
num_processes=$1
shift
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > num_processes ? cores / num_processes : 1))}
if [ "$num_processes" = 1 ]; then
  exec python3 "$@"
fi
exec python3 -m torch.distributed.run --standalone --nproc-per-node "$num_processes" "$@"
