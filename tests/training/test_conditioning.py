"""What a network is given beside image and time."""

import torch

from passband.training.batches import Batch
from passband.training.conditioning import Conditioner, sampled_classes


def batch(count: int, **more) -> Batch:
    return Batch(torch.zeros(count, 1, 4, 4), torch.arange(count), **more)


def test_nothing_for_a_network_that_takes_nothing():
    assert Conditioner(0, True, 0, 0.5, 0)(batch(3, classes=torch.tensor([0, 1, 2]))) == {}


def test_one_hot_rows_or_indices():
    classes = torch.tensor([2, 0, 1])
    rows = Conditioner(3, True, 0, 0.0, 0)(batch(3, classes=classes))["class_labels"]
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert Conditioner(3, False, 0, 0.0, 0)(batch(3, classes=classes))["class_labels"].tolist() == [2, 0, 1]


def test_dropped_classes_are_zeros_or_the_last_index_for_the_share_asked_for():
    classes = torch.zeros(2000, dtype=torch.long)
    rows = Conditioner(3, True, 0, 0.2, seed=1)(batch(2000, classes=classes))["class_labels"]
    index = Conditioner(3, False, 0, 0.2, seed=1)(batch(2000, classes=classes))["class_labels"]
    dropped = rows.sum(1) == 0
    assert torch.equal(dropped, index == 2)
    assert torch.equal(~dropped, index == 0)
    assert abs(dropped.float().mean().item() - 0.2) < 0.04  # 4 standard errors


def test_a_drop_depends_on_the_position_alone():
    conditioner = Conditioner(3, True, 0, 0.5, seed=2)
    classes = torch.zeros(8, dtype=torch.long)
    whole = conditioner(batch(8, classes=classes))["class_labels"]
    part = conditioner(Batch(torch.zeros(3, 1, 4, 4), torch.arange(5, 8), classes[5:]))["class_labels"]
    assert torch.equal(whole[5:], part)


def test_augmentation_labels_are_zeros_without_augmentation():
    given = torch.ones(2, 9)
    conditioner = Conditioner(0, True, 9, 0.0, 0)
    assert conditioner(batch(2))["augment_labels"].tolist() == [[0.0] * 9] * 2
    assert torch.equal(conditioner(batch(2, augment_labels=given))["augment_labels"], given)


def test_sampled_classes_are_spread_and_depend_on_the_seed_alone():
    classes = sampled_classes(range(3000), 3)
    counts = torch.bincount(classes, minlength=3)
    assert int(counts.min()) > 1000 - 4 * 26  # 4 standard deviations
    assert torch.equal(sampled_classes(range(10, 20), 3), classes[10:20])
