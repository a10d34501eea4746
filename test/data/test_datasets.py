# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from icefall_alp.config.schema import DataConfig, SpecAugmentConfig
from icefall_alp.data.datasets import CaptionDataset, LabelDataset, read_class_list
from icefall_alp.data.fbank import Fbank
from icefall_alp.data.shards import FeatureShards, ShardWriter, finish_shards, start_shards
from icefall_alp.utils.errors import UserError

PADDING = np.float32(np.log(1e-10))


@pytest.fixture
def stored(store, cuts):
    folder, clips = store(cuts)
    return FeatureShards(folder), clips


def test_validation_takes_the_first_caption_and_leaves_the_features(stored, cuts):
    shards, clips = stored
    batch = CaptionDataset(shards)[0, np.array([3, 0, 7])]
    assert batch.features.shape == (3, 200, 80) and batch.features.dtype == torch.float32
    assert batch.feature_lens.tolist() == [200, 20, 33] and batch.feature_lens.dtype == torch.int64
    assert batch.cut_ids == [cuts[position].id for position in (3, 0, 7)]
    assert batch.captions == [f"{cuts[position].id} first" for position in (3, 0, 7)]
    for row, position in enumerate((3, 0, 7)):
        length = len(clips[position])
        assert np.array_equal(batch.features[row, :length].numpy(), clips[position].astype(np.float32))
        assert (batch.features[row, length:] == PADDING).all()


def test_batches_know_their_seconds(stored):
    batch = CaptionDataset(stored[0])[0, np.array([3, 0, 7])]
    moved = batch.to("cpu")
    assert moved.num_seconds == batch.num_seconds == 2.53
    assert moved.captions == batch.captions
    assert batch.to(torch.device("meta")).features.device.type == "meta"
    assert batch.to(torch.device("meta")).num_seconds == 2.53


def test_training_draws_captions_and_augments_whatever_the_batch(stored):
    dataset = CaptionDataset(stored[0], seed=5, config=DataConfig())
    everything = dataset[2, np.arange(10)]
    for position in range(10):
        alone = dataset[2, np.array([position])]
        length = alone.feature_lens.item()
        assert alone.captions == [everything.captions[position]]
        assert torch.equal(alone.features[0], everything.features[position, :length])
    assert not torch.equal(dataset[3, np.array([3])].features, dataset[2, np.array([3])].features)
    drawn = {dataset[epoch, np.array([4])].captions[0].split()[-1] for epoch in range(30)}
    assert drawn == {"first", "second", "third"}


def test_captions_drawn_do_not_depend_on_augmentation(stored):
    plain, augmented = (
        CaptionDataset(stored[0], 5, DataConfig(spec_augment=SpecAugmentConfig(probability=p))) for p in (0.0, 0.9)
    )
    assert plain[1, np.arange(10)].captions == augmented[1, np.arange(10)].captions
    assert plain[1, np.arange(10)].captions != CaptionDataset(stored[0], 6, DataConfig())[1, np.arange(10)].captions


def test_each_visit_of_an_epoch_draws_its_own_caption_and_augmentation(stored):
    dataset = CaptionDataset(stored[0], seed=5, config=DataConfig())
    labels = LabelDataset(stored[0], ["dog"], seed=5, config=DataConfig())
    visits = [dataset[2, np.array([4 + visit * 10])] for visit in range(12)]
    assert {batch.cut_ids[0] for batch in visits} == {stored[0].cuts[4].id}
    assert {batch.captions[0].split()[-1] for batch in visits} == {"first", "second", "third"}
    assert not torch.equal(visits[0].features, visits[1].features)
    assert not torch.equal(labels[2, np.array([4])].features, labels[2, np.array([14])].features)
    assert torch.equal(dataset[2, np.array([3, 14])].features[1, :77], visits[1].features[0])


def test_a_cut_without_caption_is_named(store, cuts):
    cuts[4].supervisions[0].custom["captions"] = []
    with pytest.raises(UserError, match=cuts[4].id):
        CaptionDataset(FeatureShards(store(cuts)[0]))[0, np.arange(10)]


def test_targets_are_multi_hot(store, cuts):
    cuts[1].supervisions[0].custom["labels"] = ["cat", "dog"]
    cuts[2].supervisions[0].custom["labels"] = []
    shards = FeatureShards(store(cuts)[0])
    batch = LabelDataset(shards, ["bird", "dog", "cat"])[0, np.array([0, 1, 2])]
    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert torch.equal(batch.to("cpu").targets, batch.targets)


def test_an_unknown_label_is_named_with_its_cut(store, cuts):
    cuts[6].supervisions[0].custom["labels"] = ["dog", "wolf"]
    with pytest.raises(UserError, match="wolf") as caught:
        LabelDataset(FeatureShards(store(cuts)[0]), ["bird", "dog", "cat"])[0, np.arange(10)]
    assert cuts[6].id in str(caught.value)


def test_open_follows_the_configuration(stored, tmp_path):
    folder = str(stored[0].folder)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    config = DataConfig(class_list=str(tmp_path / "classes.txt"), spec_augment=SpecAugmentConfig(num_frame_masks=3))
    training = CaptionDataset.open(config, folder, training=True, seed=3)
    assert training.config == config
    validation = LabelDataset.open(config, folder, training=False, seed=3)
    assert validation.config is None and validation.class_list == ("dog", "cat")
    assert len(training) == 10 and training.durations[3] == 2.0


@pytest.fixture
def both_kinds(tmp_path, cuts):
    """The same clips stored as audio and as the features of that audio."""
    generator, folders = np.random.default_rng(2), {}
    clips = [np.rint(3000 * generator.standard_normal(cut.num_frames * 160)) / 32768 for cut in cuts]
    for kind in ("audio", "fbank"):
        start_shards(tmp_path / kind, 1)
        with ShardWriter(tmp_path / kind, 0, kind) as writer:
            for cut, clip in zip(cuts, clips, strict=True):
                waveform = torch.from_numpy(clip).float()
                features, _ = Fbank()(waveform[None], torch.tensor([len(clip)]))
                writer.add(cut, waveform.numpy() if kind == "audio" else features[0].numpy())
            writer.finish("digest", [])
        finish_shards(tmp_path / kind, [])
        folders[kind] = tmp_path / kind
    return folders


@pytest.mark.parametrize("config", [None, DataConfig()])
def test_features_on_the_fly_equal_stored_ones(both_kinds, config):
    """Captions, augmentation and lengths included, and whatever the batch."""
    on_the_fly, stored = (CaptionDataset(FeatureShards(both_kinds[kind]), 3, config) for kind in ("audio", "fbank"))
    for epoch, indices in ((0, np.arange(10)), (4, np.array([7, 1, 3]))):
        ours, theirs = on_the_fly[epoch, indices], stored[epoch, indices]
        assert ours.num_seconds == theirs.num_seconds
        moved = ours.to("cpu")
        assert moved.captions == theirs.captions and torch.equal(moved.feature_lens, theirs.feature_lens)
        assert (moved.features - theirs.features).abs().max() < 1e-4


def test_all_that_audio_becomes_features_from_is_pinned(both_kinds, monkeypatch):
    """The tables of its augmentation as well, and they are made where the batch is."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    for config, made in ((DataConfig(), True), (None, False)):
        batch = CaptionDataset(FeatureShards(both_kinds["audio"]), 3, config)[0, np.arange(10)]
        ours, pinned = (vars(one.features) for one in (batch, batch.pin_memory()))
        assert ours.keys() == pinned.keys() and (ours["tables"] is not None) == made
        for here, there in zip(tree_leaves(ours), tree_leaves(pinned), strict=True):
            assert here is there is None or (here is not there and torch.equal(here, there))
        assert torch.equal(batch.to("cpu").features, batch.pin_memory().to("cpu").features)


def damage(folder, position):
    index = json.loads((folder / "index.000000.json").read_text())
    (path,) = folder.glob("*.tar")
    data = bytearray(path.read_bytes())
    data[index["offsets"][position] + 100] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["audio", "fbank"])
def test_a_damaged_clip_is_left_out_and_its_batch_mates_stay_as_they_are(both_kinds, kind):
    dataset = CaptionDataset(FeatureShards(both_kinds[kind]), 3, DataConfig())
    before = dataset[2, np.arange(10)].to("cpu")
    damage(both_kinds[kind], 4)
    after = dataset[2, np.arange(10)].to("cpu")
    intact = [position for position in range(10) if position != 4]
    assert after.cut_ids == [before.cut_ids[position] for position in intact]
    assert after.captions == [before.captions[position] for position in intact]
    assert torch.equal(after.features, before.features[intact])
    (row,) = map(json.loads, (both_kinds[kind] / "damaged.jsonl").read_text().splitlines())
    assert row["id"] == before.cut_ids[4] and "checksum" in row["reason"]
    damage(both_kinds[kind], 6)
    with pytest.raises(UserError, match="2 of 10 clips are damaged"):
        dataset[2, np.arange(10)]


def test_the_clip_most_alike_in_length_stands_in_for_a_batch_that_is_damaged(both_kinds):
    dataset = LabelDataset(FeatureShards(both_kinds["audio"]), ["dog"], 3, DataConfig())
    damage(both_kinds["audio"], 4)
    for _ in range(2):
        assert dataset[1, np.array([4])].cut_ids == [dataset.shards.cuts[8].id]  # 90 frames in place of 77


def test_damaged_noise_is_not_mixed_in(both_kinds, tmp_path):
    quiet = SpecAugmentConfig(probability=0.0)
    config = DataConfig(noise_cuts=str(tmp_path / "noise"), noise_probability=1.0, spec_augment=quiet)
    shutil.copytree(both_kinds["audio"], tmp_path / "noise")
    damage(tmp_path / "noise", 0)
    shards = FeatureShards(both_kinds["audio"])
    dataset, plain = CaptionDataset(shards, 3, config), CaptionDataset(shards, 3)
    as_they_are = plain[0, np.arange(10)].features.samples
    unmixed = 0
    for epoch in range(10):
        samples = dataset[epoch, np.arange(10)].features.samples
        unmixed += sum(torch.equal(*pair) for pair in zip(samples, as_they_are, strict=True))
    assert 0 < unmixed < 30
    assert (tmp_path / "noise/damaged.jsonl").exists() and not (both_kinds["audio"] / "damaged.jsonl").exists()


def test_speed_and_noise_are_drawn_per_clip_and_change_the_audio(both_kinds):
    noise = str(both_kinds["audio"])
    quiet = SpecAugmentConfig(probability=0.0)
    config = DataConfig(speeds=(0.9, 1.0, 1.1), noise_cuts=noise, noise_probability=1.0, spec_augment=quiet)
    shards = FeatureShards(both_kinds["audio"])
    dataset, plain = CaptionDataset(shards, 3, config), CaptionDataset(shards, 3)
    everything = dataset[1, np.arange(10)].to("cpu")
    ratios = everything.feature_lens / plain[1, np.arange(10)].feature_lens
    assert {round(float(ratio), 1) for ratio in ratios} == {0.9, 1.0, 1.1}
    assert dataset.durations == pytest.approx(shards.durations / 0.9)
    for position in (0, 6):
        alone = dataset[1, np.array([position])].to("cpu")
        assert (alone.features[0] - everything.features[position, : alone.feature_lens[0]]).abs().max() < 1e-5
    with pytest.raises(UserError, match=r"noise_cuts and data\.speeds change waveforms"):
        CaptionDataset(FeatureShards(both_kinds["fbank"]), 3, config)


def test_a_clip_that_another_speed_would_make_too_short_keeps_its_own(tmp_path, cuts):
    start_shards(tmp_path, 1)
    with ShardWriter(tmp_path, 0, "audio") as writer:
        for cut, num_samples in zip(cuts, [1360, 1400, 1440, 3200], strict=False):
            writer.add(cut, np.full(num_samples, 0.1, dtype=np.float32))
        writer.finish("digest", [])
    finish_shards(tmp_path, [])
    dataset = CaptionDataset(FeatureShards(tmp_path), 3, DataConfig(speeds=(1.1,)))
    assert dataset[0, np.arange(4)].feature_lens.tolist() == [9, 9, 9, 18]


@pytest.mark.parametrize(("text", "complaint"), [("a\nb\na\n", "'a' stands there twice"), ("\n\n", "no names")])
def test_bad_class_lists_are_refused(tmp_path, text, complaint):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_class_list(tmp_path / "classes.txt")
    with pytest.raises(UserError, match="cannot read"):
        read_class_list(tmp_path / "nothing.txt")
