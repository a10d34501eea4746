# SPDX-License-Identifier: Apache-2.0
import pytest
from lhotse import MonoCut
from lhotse.cut import Cut

from icefall_alp.data.stored_cuts import features_manifest, recording_manifest, stored_cut


@pytest.mark.parametrize("manifest", [features_manifest(150, 80), recording_manifest("a", 24000)])
def test_a_stored_cut_begins_at_zero_and_keeps_what_is_known_of_it(manifest):
    cut = MonoCut("a", start=7.5, duration=1.5, channel=1, custom={"corpus": "toy"})
    stored = stored_cut(cut, manifest)
    assert isinstance(stored, Cut) and (stored.id, stored.start, stored.duration) == ("a", 0, 1.5)
    assert stored.custom == {"corpus": "toy"}
    assert manifest in (stored.features, stored.recording)
