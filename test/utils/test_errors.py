# SPDX-License-Identifier: Apache-2.0
"""Faults of a person are one line, faults of the program keep their traceback."""

import subprocess
import sys

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


@pytest.mark.parametrize("num_lines", [1, 100_000])
def test_a_reader_that_leaves_is_no_error(num_lines):
    program = f"from icefall_alp.utils.errors import clean_exit; clean_exit(lambda: print('line\\n' * {num_lines}))()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_another_broken_pipe_keeps_its_traceback():
    program = "from icefall_alp.utils.errors import clean_exit\ndef main(): raise BrokenPipeError\nclean_exit(main)()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr
