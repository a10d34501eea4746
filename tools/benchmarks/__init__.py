# SPDX-License-Identifier: Apache-2.0
"""One module per benchmark, named as on the command line: a docstring, add_arguments(parser) and run(arguments)."""
