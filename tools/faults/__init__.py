# SPDX-License-Identifier: Apache-2.0
"""Faults that training must survive, each a module behind tools/inject_faults.py: docstring, add_arguments, run."""
