"""Batches, seeds, precision and the reduction of the loss."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from kinema.core.errors import KinemaError
from kinema.train.config import TrainConfig
from kinema.train.dry_run import dry_run
from kinema.train.optim import OptimConfig
from kinema.train.step import choose_precision, seeded, summed_loss, to_tensors

CPU = torch.device("cpu")


def test_arrays_become_tensors_without_a_copy() -> None:
    image = np.zeros((2, 1, 4, 4, 3), np.uint8)
    given = {"image.front": image, "instruction": ["a", "b"], "mask": torch.ones(2, 3, dtype=torch.bool)}
    batch = to_tensors(given, CPU)
    image[0, 0, 0, 0, 0] = 7
    assert batch["image.front"].dtype == torch.uint8 and batch["image.front"][0, 0, 0, 0, 0] == 7
    assert batch["instruction"] == ["a", "b"] and batch["mask"] is given["mask"]


def test_read_only_and_flipped_arrays_are_copied() -> None:
    fixed = np.arange(4.0)
    fixed.flags.writeable = False
    batch = to_tensors({"a": fixed, "b": np.arange(4)[::-1]}, CPU)
    batch["a"][0] = 9.0
    assert fixed[0] == 0.0 and batch["b"].tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("value", ["text", np.array(["a"]), np.array([None])])
def test_other_entries_are_named(value: object) -> None:
    with pytest.raises(KinemaError, match=r"batch entry 'thing' is .*; expected a numeric array, a tensor or a list"):
        to_tensors({"thing": value}, CPU)


class Given(nn.Module):
    """Returns the loss that the batch holds."""

    def loss(self, batch: dict[str, torch.Tensor], rng: torch.Generator) -> torch.Tensor:
        return batch["loss"]


def test_the_mask_decides_which_losses_count() -> None:
    mask = torch.tensor([[True, False, True], [True, False, False]])
    loss = torch.tensor([[1.0, float("nan"), 2.0], [4.0, float("inf"), 9.0]])
    total, count = summed_loss(Given(), {"loss": loss, "mask": mask}, torch.Generator(), "fp32")
    assert (total.item(), count) == (7.0, 3)


def test_a_mask_or_loss_that_does_not_fit_is_named() -> None:
    loss = torch.zeros(2, 3)
    with pytest.raises(KinemaError, match=r"'mask' is missing; expected \(B, H\) bool; did you mean 'masks'\?"):
        summed_loss(Given(), {"loss": loss, "masks": loss}, torch.Generator(), "fp32")
    with pytest.raises(KinemaError, match=r"'mask' is torch\.float32"):
        summed_loss(Given(), {"loss": loss, "mask": loss}, torch.Generator(), "fp32")
    with pytest.raises(KinemaError, match=r"the loss has shape \(2, 3\); expected \(3, 2\)"):
        summed_loss(Given(), {"loss": loss, "mask": loss.t() > 0}, torch.Generator(), "fp32")


def test_seeds_fix_both_generators() -> None:
    rng = torch.Generator()
    with torch.random.fork_rng():
        seeded(rng, "train", 0, 5)
        first = (torch.rand(2, generator=rng).tolist(), torch.rand(2).tolist())
        seeded(rng, "train", 0, 5)
        assert (torch.rand(2, generator=rng).tolist(), torch.rand(2).tolist()) == first
        seeded(rng, "train", 0, 6)
        assert torch.rand(2, generator=rng).tolist() != first[0]


def test_precision_is_chosen_or_refused() -> None:
    assert choose_precision("fp32", CPU) == "fp32" and choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("auto", CPU) in ("fp32", "bf16")
    with pytest.raises(KinemaError, match=r"unknown precision 'bf-16'; did you mean 'bf16'\?"):
        choose_precision("bf-16", CPU)


def test_a_dry_run_counts_and_changes_nothing(tiny: ModuleType) -> None:
    network = tiny.Tiny()
    network.eval()
    network.spare = nn.Linear(2, 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = dry_run(network, tiny.batch_of(0), tiny.config())
    assert found.parameters == found.trainable_parameters == 3 * 8 + 8 + 2 * 8 + 8 * 4 + 4 + 6
    assert found.without_gradient == ("spare.weight", "spare.bias")
    # Weights, gradients, two moments and the average, each 90 float32; more for buffers and activations.
    assert 5 * 90 * 4 < found.memory_bytes < 5 * 90 * 4 + 4000
    assert found.step_s > 0 and np.isfinite(found.loss) and found.precision == "fp32"
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not network.net.training and all(p.grad is None for p in network.parameters())


def test_configuration_values_are_checked() -> None:
    optim = OptimConfig(warmup_steps=0)
    for changes, message in (
        ({"log_every": 0}, "log_every: 0 is below 1"),
        ({"ema_decay": 1.0}, "ema_decay: 1.0 is not in"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"max_minutes": 0.0}, "max_minutes: 0.0 is not positive"),
        ({"optim": OptimConfig(warmup_steps=10)}, "optim.warmup_steps: 10 must be below steps, 10"),
    ):
        with pytest.raises(KinemaError, match=message):
            TrainConfig(**{"steps": 10, "batch_size": 2, "optim": optim, **changes})
