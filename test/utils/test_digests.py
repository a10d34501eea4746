# SPDX-License-Identifier: Apache-2.0
"""Against the published SHA-256 of "abc" (FIPS 180-4)."""

from icefall_alp.utils.digests import sha256_file, sha256_text

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_text_and_file_agree_with_the_standard(tmp_path):
    assert sha256_text("abc") == ABC
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == ABC


def test_one_bit_changes_the_digest_of_a_large_file(tmp_path):
    data = bytearray(3 << 20)
    path = tmp_path / "large"
    path.write_bytes(data)
    before = sha256_file(path)
    data[-1] ^= 1
    path.write_bytes(data)
    assert sha256_file(path) != before
