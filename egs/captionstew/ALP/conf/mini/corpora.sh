# shellcheck shell=bash disable=SC2154,SC2034  # sourced by run.sh, which has num_jobs and takes corpus_roots
# SPDX-License-Identifier: Apache-2.0
# The embedded corpora: small, in the published formats, made here from real recordings.
run local/make_mini_corpora.py --output-dir data/corpora --work-dir data/downloads --num-jobs "$num_jobs"
once mini_airbench data/corpora/airbench data/corpora/{clothoaqa,musicqa,cremad} -- \
  local/make_mini_airbench.py --corpora-dir data/corpora
mapfile -t corpus_names < <(grep -oE '^[a-z0-9_]+' "$conf/corpora.yaml")
corpus_roots=()
for name in "${corpus_names[@]}"; do
  corpus_roots+=("$name=data/corpora/$name")
done
