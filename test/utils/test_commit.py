# SPDX-License-Identifier: Apache-2.0
"""The state of the code, with and without changes, and outside a repository."""

import subprocess

from icefall_alp.utils.commit import git_commit


def test_commit_and_changes(tmp_path):
    assert git_commit(tmp_path).startswith("unknown")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    (tmp_path / "a").write_text("1", encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *arguments], cwd=tmp_path, check=True)
    assert len(git_commit(tmp_path)) == 40
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert git_commit(tmp_path).endswith("with uncommitted changes")
