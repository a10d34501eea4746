# SPDX-License-Identifier: Apache-2.0
"""The embedded corpora: real recordings and two sound engines, cut and mixed into the published corpus formats."""
