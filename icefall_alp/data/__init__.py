# SPDX-License-Identifier: Apache-2.0
"""Floor 1, the data: published corpora in, captioned cuts, features and batches out; strings, never tokens."""
