# shellcheck shell=bash disable=SC2154,SC2034  # sourced by run.sh, which has num_jobs and takes corpus_roots
# SPDX-License-Identifier: Apache-2.0
# The embedded corpora: small, in the published formats, made here from real recordings.
run local/make_mini_corpora.py --output-dir data/corpora --work-dir data/downloads --num-jobs "$num_jobs"
corpus_roots=()
for folder in data/corpora/*/; do
  folder=${folder%/}
  corpus_roots+=("${folder##*/}=$folder")
done
