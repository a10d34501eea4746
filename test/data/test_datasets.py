# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from icefall_alp.config.schema import DataConfig, SpecAugmentConfig
from icefall_alp.data.datasets import CaptionDataset, LabelDataset, read_class_list
from icefall_alp.data.shards import FeatureShards
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
    dataset = CaptionDataset(stored[0], draw_captions=True, seed=5, augment=SpecAugmentConfig())
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
    plain, augmented = (CaptionDataset(stored[0], True, 5, config) for config in (None, SpecAugmentConfig()))
    assert plain[1, np.arange(10)].captions == augmented[1, np.arange(10)].captions
    assert plain[1, np.arange(10)].captions != CaptionDataset(stored[0], True, 6)[1, np.arange(10)].captions


def test_a_cut_without_caption_is_named(stored):
    shards, _ = stored
    shards.cuts[4].supervisions[0].custom["captions"] = []
    with pytest.raises(UserError, match=shards.cuts[4].id):
        CaptionDataset(shards)


def test_targets_are_multi_hot(stored):
    shards, _ = stored
    shards.cuts[1].supervisions[0].custom["labels"] = ["cat", "dog"]
    shards.cuts[2].supervisions[0].custom["labels"] = []
    batch = LabelDataset(shards, ["bird", "dog", "cat"])[0, np.array([0, 1, 2])]
    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert torch.equal(batch.to("cpu").targets, batch.targets)


def test_an_unknown_label_is_named_with_its_cut(stored):
    shards, _ = stored
    shards.cuts[6].supervisions[0].custom["labels"] = ["dog", "wolf"]
    with pytest.raises(UserError, match="wolf") as caught:
        LabelDataset(shards, ["bird", "dog", "cat"])
    assert shards.cuts[6].id in str(caught.value)


def test_open_follows_the_configuration(stored, tmp_path):
    folder = str(stored[0].folder)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    config = DataConfig(class_list=str(tmp_path / "classes.txt"), spec_augment=SpecAugmentConfig(num_frame_masks=3))
    training = CaptionDataset.open(config, folder, training=True, seed=3)
    assert training.augment == config.spec_augment and training.draw_captions
    validation = LabelDataset.open(config, folder, training=False, seed=3)
    assert validation.augment is None and validation.class_list == ("dog", "cat")
    assert len(training) == 10 and training.durations[3] == 2.0


@pytest.mark.parametrize(("text", "complaint"), [("a\nb\na\n", "'a' stands there twice"), ("\n\n", "no names")])
def test_bad_class_lists_are_refused(tmp_path, text, complaint):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_class_list(tmp_path / "classes.txt")
    with pytest.raises(UserError, match="cannot read"):
        read_class_list(tmp_path / "nothing.txt")
