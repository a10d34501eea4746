# shellcheck shell=bash disable=SC1091  # your own file need not exist
# SPDX-License-Identifier: Apache-2.0
# Where the paper's corpora lie: your own file says so.
[ -f "$ALP_ROOT/local/corpora.sh" ] || die "copy local/corpora.sh.example to local/corpora.sh and say where the corpora lie"
. "$ALP_ROOT/local/corpora.sh"
