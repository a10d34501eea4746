# SPDX-License-Identifier: Apache-2.0
"""Against the published SHA-256 of "abc" (FIPS 180-4)."""

from icefall_alp.utils.digests import folder_digest, sha256_file, sha256_file_once, sha256_text, word_sum

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


def test_a_file_asked_for_again_is_read_again_when_it_has_changed(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert sha256_file_once(path) == ABC
    path.write_bytes(b"abcd")
    assert sha256_file_once(path) == sha256_file(path) != ABC


def test_a_folder_is_its_names_and_contents(tmp_path):
    (tmp_path / "one").write_bytes(b"abc")
    before = folder_digest(tmp_path)
    (tmp_path / "one").rename(tmp_path / "two")
    renamed = folder_digest(tmp_path)
    (tmp_path / "two").write_bytes(b"abd!")
    assert len({before, renamed, folder_digest(tmp_path)}) == 3


def test_every_flipped_bit_changes_the_word_sum():
    data = bytes(range(200, 221))
    assert word_sum(data) == sum(int.from_bytes(data[i : i + 8], "little") for i in (0, 8, 16)) % 2**64
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert word_sum(bytes(flipped)) != word_sum(data)
