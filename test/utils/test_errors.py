# SPDX-License-Identifier: Apache-2.0
"""Faults of a person are one line, faults of the program keep their traceback."""

import pytest

from icefall_alp.utils.errors import UserError, clean_exit


def raising(error):
    @clean_exit
    def main():
        raise error

    return main


def test_a_user_error_is_one_line_and_status_1(capsys):
    with pytest.raises(SystemExit) as leaving:
        raising(UserError("no file x;\n  make it"))()
    assert leaving.value.code == 1
    assert capsys.readouterr().err == "error: no file x; make it\n"


def test_an_interrupt_is_status_130(capsys):
    with pytest.raises(SystemExit) as leaving:
        raising(KeyboardInterrupt())()
    assert leaving.value.code == 130 and capsys.readouterr().err == ""


def test_other_errors_and_values_pass_through():
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()
    assert clean_exit(lambda value: value + 1)(2) == 3
