# SPDX-License-Identifier: Apache-2.0
"""What a frozen encoder is worth: protocols, scores and the results they leave."""
