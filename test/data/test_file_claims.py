# SPDX-License-Identifier: Apache-2.0
"""Whose a file is that several clips claim."""

from hypothesis import given
from hypothesis import strategies as st

from icefall_alp.data.captions import SPLITS, AudioItem
from icefall_alp.data.file_claims import FileClaims, is_whole

ITEMS = st.builds(
    AudioItem, st.sampled_from("abcd"), st.sampled_from(["1.wav", "2.wav", None]), st.sampled_from(SPLITS),
    duration=st.sampled_from([None, None, 3.0]),
)  # fmt: skip


@given(st.lists(ITEMS, max_size=10))
def test_the_owner_of_a_file_is_the_first_of_the_clips_that_are_held_out_most(items):
    claims = FileClaims()
    assert [claims.noted(item) for item in items] == items
    files = {}
    for item in filter(is_whole, items):
        files.setdefault(item.path, []).append(item)
    held_out_most = {path: max(own, key=lambda item: SPLITS.index(item.split)) for path, own in files.items()}
    contested = {path for path, own in files.items() if len({item.key for item in own}) > 1}
    assert claims.owners() == {hash(path): hash(held_out_most[path].key) for path in contested}
