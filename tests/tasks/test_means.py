"""Means that are joined exactly."""

import torch

from tasks.means import Mean, Means, shares


def test_a_mean_of_unequal_parts_is_that_of_all():
    numbers, means = torch.arange(10.0), Means()
    for part in numbers.split([1, 2, 7]):
        means.update({"number": Mean.of(part.sum(), len(part))})
    assert means.gather()["number"] == numbers.mean()
    assert means.gather() == {}


def test_a_mean_of_nothing_is_zero_with_a_gradient_of_zero():
    total = torch.zeros((), requires_grad=True)
    mean = Mean.of(total * 0, 0)
    assert mean.value == shares({"loss": mean})["loss"] == 0
    assert torch.autograd.grad(mean.value, total)[0] == 0


def test_counts_are_shared_by_name_and_shape(monkeypatch):
    """As if another process had three times as much of each."""
    monkeypatch.setattr("tasks.means.averaged", lambda counts: counts * 2)
    layers = Mean.of(torch.tensor([8.0, 16.0]), torch.tensor([1.0, 2.0]))
    values = shares({"class": layers, "box": Mean.of(torch.tensor(6.0), 3)})
    assert values["class"].tolist() == [4.0, 4.0]
    assert values["box"] == 1.0
