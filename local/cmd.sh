# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# How processes are started on your machines. Edit as you like: no result may change.

# CPU jobs of stage 0: one for each corpus and, where scan_parts is not 0, one for each part of its audio.
cpu_cmd="array_jobs.py" # on this machine, --num-jobs at a time
# cpu_cmd="array_jobs.py --slurm='--partition=cpu --mem=8G --time=24:00:00'"   as Slurm arrays, --num-jobs tasks at a time

# Parts in which the audio of a corpus is scanned before its lists are read (local/scan_audio.py); 0 opens the listed
# files while the lists are read, which is enough for a hundred thousand of them.
scan_parts=0

# Training and evaluation (tools/launch.sh).
launcher=here       # here (this machine) or slurm
gpus_per_node=8     # processes per node under Slurm
seconds_to_save=180 # before a job's time is up it is asked to save and leave; then it is submitted again
# export GLOO_SOCKET_IFNAME=eth0   the nodes' interface to each other, where their names are those of the loopback
slurm_options=()    # for example (--partition=gpu --time=24:00:00 --cpus-per-task=64 --mem=500G --output=exp/slurm.log)
