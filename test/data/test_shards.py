# SPDX-License-Identifier: Apache-2.0
import json
import pickle
import tarfile

import numpy as np
import pytest
from lhotse import CutSet

from icefall_alp.data.damage import DamagedClip
from icefall_alp.data.shards import FeatureShards, ShardWriter, finish_shards, start_shards, stored_shard
from icefall_alp.utils.errors import UserError


def test_random_access_gives_what_was_written(store, cuts):
    folder, clips = store(cuts)
    shards = FeatureShards(folder)
    assert len(shards) == len(cuts)
    for position in np.random.default_rng(1).permutation(len(cuts)):
        features = shards.features(position)
        assert features.dtype == np.float32
        assert np.array_equal(features, clips[position])
        assert shards.cuts[position].id == cuts[position].id
    assert shards.cuts[3].supervisions[0].custom == cuts[3].supervisions[0].custom
    assert shards.durations.tolist() == [cut.duration for cut in cuts]
    copied = pickle.loads(pickle.dumps(shards))
    assert np.array_equal(copied.features(5), clips[5])


def test_lhotse_reads_the_same_files(store, cuts):
    folder, clips = store(cuts)
    fields = {"cuts": sorted(folder.glob("cuts.*")), "features": sorted(folder.glob("features.*"))}
    read = list(CutSet.from_shar(fields={name: list(map(str, paths)) for name, paths in fields.items()}))
    assert [cut.id for cut in read] == [cut.id for cut in cuts]
    for cut, clip in zip(read, clips, strict=True):
        assert np.array_equal(cut.load_features(), clip)
        assert cut.num_frames == len(clip)


def test_equal_cuts_make_equal_bytes(store, cuts, tmp_path):
    first, _ = store(cuts, tmp_path / "first")
    second, _ = store(cuts, tmp_path / "second")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


@pytest.mark.parametrize("name", ["features.000001.tar", "cuts.000001.jsonl.gz", "clips.json", "clips.npy"])
@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_a_damaged_shard_is_refused_in_one_line(store, cuts, name, damage):
    folder, _ = store(cuts)
    path = folder / name
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError) as caught:
        FeatureShards(folder)
    assert name in str(caught.value)
    assert "again" in str(caught.value) or "run the stage" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shard_truncated_later_is_refused_when_read(store, cuts):
    folder, _ = store(cuts)
    shards = FeatureShards(folder)
    path = folder / "features.000000.tar"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"features\.000000\.tar: cut .*:3000: the file ends inside it"):
        shards.features(3)


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["fbank", "audio"])
def test_a_flipped_bit_is_noticed_wherever_it_is_in_a_clip(tmp_path, cuts, kind):
    start_shards(tmp_path, 1)
    with ShardWriter(tmp_path, 0, kind) as writer:
        for cut in cuts[:2]:
            shape = cut.num_frames * 160 if kind == "audio" else (cut.num_frames, 80)
            writer.add(cut, 0.1 * np.random.default_rng(0).standard_normal(shape))
        writer.finish("digest", [])
    finish_shards(tmp_path, [])
    index = json.loads((tmp_path / "index.000000.json").read_text())
    (path,) = tmp_path.glob("*.tar")
    generator, before = np.random.default_rng(1), path.read_bytes()
    for _ in range(20):
        flip(path, index["offsets"][1] + generator.integers(index["sizes"][1]), generator.integers(8))
        with pytest.raises(DamagedClip, match="does not match its checksum"):
            FeatureShards(tmp_path).features(1)
        assert len(FeatureShards(tmp_path).features(0)) == 20
        path.write_bytes(before)
    assert len((tmp_path / "damaged.jsonl").read_text().splitlines()) == 1
    assert len(FeatureShards(tmp_path).features(1)) == 130


def test_a_flipped_bit_in_a_description_or_the_list_of_clips_is_noticed(store, cuts):
    folder, _ = store(cuts)
    flip(folder / "cuts.000001.jsonl.gz", 40)
    with pytest.raises(DamagedClip, match="cut number 4: its description is damaged"):
        FeatureShards(folder).entry(4)
    flip(folder / "clips.npy", -3)
    with pytest.raises(UserError, match=r"clips\.npy: this or clips\.json is damaged; run stage 2"):
        FeatureShards(folder)


def test_no_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="run stage 2"):
        FeatureShards(tmp_path / "nothing")


def test_a_shard_is_current_only_with_its_digest_and_whole(store, cuts):
    folder, _ = store(cuts)
    assert stored_shard(folder, 0, "digest").num_frames == [20, 130, 40, 200]
    assert stored_shard(folder, 0, "other") is None
    assert stored_shard(folder, 7, "digest") is None
    path = folder / "features.000000.tar"
    path.write_bytes(path.read_bytes()[:-1])
    assert stored_shard(folder, 0, "digest") is None


def test_an_interrupted_writer_leaves_nothing_that_is_believed(tmp_path, cuts):
    start_shards(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, 0) as writer:
        writer.add(cuts[0], np.zeros((20, 80)))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_fewer_shards_than_before_leave_no_old_ones(store, cuts):
    folder, _ = store(cuts)
    store(cuts[:4], folder)
    assert len(FeatureShards(folder)) == 4


def test_a_shard_in_which_every_cut_was_skipped(tmp_path, store, cuts):
    folder, _ = store(cuts)
    with ShardWriter(folder, 1) as writer:
        writer.finish("digest", [{"id": cuts[4].id, "path": "x", "reason": "empty"}])
    finish_shards(folder, [])
    with tarfile.open(folder / "features.000001.tar") as tar:
        assert tar.getnames() == []
    assert len(FeatureShards(folder)) == 6
