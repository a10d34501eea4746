# SPDX-License-Identifier: Apache-2.0
"""Archives come out whole or not at all, and never beside their folder."""

import io
import tarfile
import zipfile

import pytest

from icefall_alp.utils.archives import unpack
from icefall_alp.utils.errors import UserError

OUTSIDE = ["../canary", "a/../../canary", "/canary", "..\\canary", "C:/canary", "a/b/../../../canary"]


def write_zip(path, names, mode=0o100644):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            file.writestr(member, b"content")


def write_tar(path, names, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, 7 * (kind == tarfile.REGTYPE), "/etc/hostname"
            file.addfile(member, io.BytesIO(b"content"))


@pytest.mark.parametrize(("write", "name"), [(write_zip, "a.zip"), (write_tar, "a.tar.gz")])
def test_good_archives_come_out_whole(tmp_path, write, name):
    names = ["audio/-a b.wav", "audio/_c/d..wav", "list.csv"]
    write(tmp_path / name, names)
    assert unpack(tmp_path / name, tmp_path / "out") == 3
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert found == sorted(names)
    assert (tmp_path / "out/list.csv").read_bytes() == b"content"


@pytest.mark.parametrize(("write", "name"), [(write_zip, "a.zip"), (write_tar, "a.tar.gz")])
@pytest.mark.parametrize("outside", OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_stops_all(tmp_path, write, name, outside):
    folder = tmp_path / "deep/er/out"
    write(tmp_path / name, ["good.wav", outside])
    with pytest.raises(UserError, match="outside the folder; nothing was unpacked"):
        unpack(tmp_path / name, folder)
    assert not folder.exists() and not list(tmp_path.rglob("*canary*"))


def test_links_and_devices_stop_all(tmp_path):
    write_zip(tmp_path / "a.zip", ["link"], mode=0o120777)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        write_tar(tmp_path / "a.tar.gz", ["link"], kind)
        for name in ("a.zip", "a.tar.gz"):
            with pytest.raises(UserError, match="'link' is a link or a device"):
                unpack(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_archives_and_wrong_sums_are_one_line(tmp_path):
    write_tar(tmp_path / "a.tar.gz", ["a" * 50])
    whole = (tmp_path / "a.tar.gz").read_bytes()
    for name, content in (("b.tar.gz", whole[:-40]), ("c.zip", b"PK"), ("d", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be unpacked"):
            unpack(tmp_path / name, tmp_path / "out")
    with pytest.raises(UserError, match=r"MD5 sum is [0-9a-f]{32}, not 00"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", md5="00")
    with pytest.raises(UserError, match="no such archive"):
        unpack(tmp_path / "absent.zip", tmp_path / "out")
