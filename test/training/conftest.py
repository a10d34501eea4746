# SPDX-License-Identifier: Apache-2.0
"""Makes `training_toys` importable, as it is for the worker script beside it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
