# SPDX-License-Identifier: Apache-2.0
"""Floor 0: errors, safe files, digests, seeds, processes and logging. Imports nothing else of this library."""
