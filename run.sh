#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The front door: installs what is missing, then runs the CaptionStew recipe with the same options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh
tools/install.sh
cd egs/captionstew/ALP
exec ./run.sh "$@"
