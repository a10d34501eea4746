#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The front door: runs the CaptionStew recipe with the same options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cd egs/captionstew/ALP
exec ./run.sh "$@"
