# SPDX-License-Identifier: Apache-2.0
"""Floor 2: what is learned. Each objective wires towers to a loss; it sees models, not data or training."""
