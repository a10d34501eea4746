# SPDX-License-Identifier: Apache-2.0
"""Which files two clips claim as a whole, and whose they are, in 17 bytes for each row of a list."""

from __future__ import annotations

from array import array

import numpy as np

from icefall_alp.data.captions import SPLITS, AudioItem


def is_whole(item: AudioItem) -> bool:
    """Whether the clip is all of a file that is there."""
    return item.path is not None and item.start == 0.0 and item.duration is None


class FileClaims:
    """What rows say of whole files. Of path and key a hash is kept: two of six million are equal once in 10^6 runs."""

    def __init__(self) -> None:
        self._files, self._keys, self._splits = array("q"), array("q"), array("b")

    def noted(self, item: AudioItem) -> AudioItem:
        """The item itself; its claim is kept."""
        if is_whole(item):
            self._files.append(hash(item.path))
            self._keys.append(hash(item.key))
            self._splits.append(SPLITS.index(item.split))
        return item

    def owners(self) -> dict[int, int]:
        """Of each file with several keys the one that counts: the first of those that are held out most.

        Returns:
            `hash(key)` by `hash(path)`.
        """
        order = np.argsort(np.asarray(self._files), kind="stable")
        files, keys = np.asarray(self._files)[order], np.asarray(self._keys)[order]
        contested = files[1:][(files[1:] == files[:-1]) & (keys[1:] != keys[:-1])]
        owners: dict[int, tuple[int, int]] = {}
        for row in np.sort(order[np.isin(files, contested)]).tolist() if contested.size else ():
            file, claim = self._files[row], (self._splits[row], self._keys[row])
            if file not in owners or claim[0] > owners[file][0]:
                owners[file] = claim
        return {file: key for file, (_, key) in owners.items()}
