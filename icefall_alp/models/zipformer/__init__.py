# SPDX-License-Identifier: Apache-2.0
"""Zipformer: the audio encoder of Yao et al., arXiv:2310.11230, with the parameter names of public checkpoints."""
