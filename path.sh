# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by every script: where the repository is, and its tools and packages first on the paths.
ALP_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export ALP_ROOT
export PATH="$ALP_ROOT/.venv/bin:$ALP_ROOT/tools:$PATH"
export PYTHONPATH="$ALP_ROOT${PYTHONPATH:+:$PYTHONPATH}"
export LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONHASHSEED=0 TOKENIZERS_PARALLELISM=false
export GOMP_SPINCOUNT=20000 # idle threads give up their core soon: beside other work the default was ten times slower
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824 # a step's memory is kept for the next one
export PYTORCH_ALLOC_CONF="${PYTORCH_ALLOC_CONF:-${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}}" # GPU: no holes
export HF_HUB_OFFLINE=1 # nothing is fetched behind your back: a missing model is named instead
