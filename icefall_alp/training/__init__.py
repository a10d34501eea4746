# SPDX-License-Identifier: Apache-2.0
"""Floor 3: the optimizer, its schedule, model averages, checkpoints and the loop that uses them."""
