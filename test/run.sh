#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install what is missing, then run every test: lint, shell, units, golden fixtures, and the recipe in small.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
tools/install.sh
ruff check .
ruff format --check .
export OMP_NUM_THREADS=1
python3 -m pytest -n 2 --dist loadfile --durations 15 "$@"
