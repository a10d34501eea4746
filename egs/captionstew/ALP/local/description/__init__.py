# SPDX-License-Identifier: Apache-2.0
"""The parts of stage 3's report: what is collected, its tables beside the paper's, its figures."""
