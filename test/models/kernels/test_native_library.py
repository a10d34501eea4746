# SPDX-License-Identifier: Apache-2.0
"""What Python says of the loops in C is what their sources say."""

from __future__ import annotations

import re

from icefall_alp.models.kernels import native_library
from icefall_alp.models.kernels.native_library import HEADERS, SIGNATURES, SOURCES


def kind(argument):
    for number, pattern in enumerate((r"\*", r"\blong\b", r"\bfloat\b", r"\bint\b")):
        if re.search(pattern, argument):
            return number
    raise AssertionError(argument)


def test_every_function_is_called_with_the_arguments_that_it_has():
    text = "".join(source.read_text() for source in SOURCES)
    functions = dict(re.findall(r"^void (\w+)\((.*?)\) \{", text, flags=re.MULTILINE | re.DOTALL))
    assert set(functions) == set(SIGNATURES)
    for name, arguments in functions.items():
        kinds = [kind(argument) for argument in arguments.split(",")]
        assert kinds == sorted(kinds), name
        assert tuple(kinds.count(number) for number in range(4)) == SIGNATURES[name], name


def test_every_file_is_compiled():
    assert {*SOURCES, *HEADERS} == {*native_library.FOLDER.glob("*.[ch]")}
