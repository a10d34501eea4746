# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# How the CPU jobs of stage 0 are run: one for each corpus and, where scan_parts is not 0, one for each part of its audio.
cpu_cmd="array_jobs.py" # on this machine, --num-jobs at a time
# cpu_cmd="array_jobs.py --slurm='--partition=cpu --mem=8G --time=24:00:00'"   as Slurm arrays, --num-jobs tasks at a time

# Parts in which the audio of a corpus is scanned before its lists are read (local/scan_audio.py); 0 opens the listed
# files while the lists are read, which is enough for a hundred thousand of them.
scan_parts=0
