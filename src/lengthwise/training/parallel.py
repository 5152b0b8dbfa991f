"""The ranks of a run: one process, or those that torchrun started.

accelerate finds the device, starts the process group and wraps the model for data parallelism. It
shards models (FSDP2) on accelerators only, so that is done here by PyTorch's own `fully_shard`,
which runs anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from lengthwise.training.config import TrainingError
from lengthwise.training.context import Context
from lengthwise.training.growth import layers_of

State = dict[str, Any]


class Ranks:
    """rank, world: this process among all. device: where it computes. context: ranks to a row.

    Raises TrainingError for what cannot be had here.
    """

    def __init__(self, precision: str = "fp32", shard: bool = False, context: int = 1) -> None:
        # Without being told to take the CPU, accelerate overlooks torchrun where there is no other.
        self._accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(), mixed_precision="no"
        )
        self._half = precision == "bf16"
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.world: int = self._accelerator.num_processes
        started = int(os.environ.get("WORLD_SIZE", 1))
        if started != self.world:
            raise TrainingError(
                f"{started} ranks were started and accelerate found {self.world}: this device "
                "cannot be shared; start one process, or set ACCELERATE_USE_CPU=true"
            )
        if shard and self.world == 1:
            raise TrainingError(
                "parallel.shard needs several ranks: start with torchrun --nproc-per-node 2 "
                "--no-python lengthwise train CONFIG, or leave it out"
            )
        self._shard = shard
        self.context: int = context
        self._shared = Context(context, self.rank, self.world) if context > 1 else None

    @property
    def first(self) -> bool:
        """Whether this rank is the one that writes and speaks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model on the device, computing gradients together with the other ranks."""
        model.to(self.device)
        if self._shard:
            from torch.distributed.fsdp import fully_shard

            for layer in layers_of(model)[1]:
                fully_shard(layer)
            fully_shard(model)
            return model
        wrapped: nn.Module = self._accelerator.prepare_model(model)
        return wrapped

    def plain(self, model: nn.Module) -> nn.Module:
        """The model without what `wrap` put around it; sharded layers stay sharded."""
        inner = getattr(model, "module", model)
        return inner if isinstance(inner, nn.Module) else model

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)

    def sharing(self, model: nn.Module, positions: Tensor | None) -> AbstractContextManager[None]:
        """Within it the model is given this rank's parts of rows that have these `positions`.

        positions: int64 [rows, length] of the whole rows; None where the model is given them whole.
        """
        if positions is None or self._shared is None:
            return nullcontext()
        return self._shared.over(self.plain(model).config, positions)

    @contextmanager
    def gradients(self, model: nn.Module, last: bool) -> Iterator[None]:
        """One part of a step: only the last part waits for the other ranks."""
        if self._shard:
            model.set_requires_gradient_sync(last)  # type: ignore[operator]
            yield
        elif last:
            yield
        else:
            with self._accelerator.no_sync(model):
                yield

    def total(self, *numbers: float) -> list[float]:
        """The sum of each number over all ranks."""
        if self.world == 1:
            return [float(each) for each in numbers]
        found = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(found)
        return [float(each) for each in found.tolist()]

    def wait(self) -> None:
        """Returns when every rank has come here."""
        self._accelerator.wait_for_everyone()

    def model_state(self, model: nn.Module, everywhere: bool = False) -> dict[str, torch.Tensor]:
        """All weights by name, whole: on the CPU of the first rank, or `everywhere`."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=not everywhere)
        found = get_model_state_dict(model, options=options)
        return found  # type: ignore[return-value]

    def optimizer_state(
        self, model: nn.Module, optimizer: Optimizer, everywhere: bool = False
    ) -> State:
        """The optimizer's state by names of weights, whole, where `model_state` is."""
        self._scatter(model)
        options = StateDictOptions(full_state_dict=True, cpu_offload=not everywhere)
        return dict(get_optimizer_state_dict(model, optimizer, options=options))

    def set_optimizer_state(self, model: nn.Module, optimizer: Optimizer, state: State) -> None:
        """The reverse of `optimizer_state`."""
        self._scatter(model)
        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(model, optimizer, state, options=options)

    def _scatter(self, model: nn.Module) -> None:
        """Makes sharded weights those that the optimizer knows, and not the gathered ones that a
        forward pass leaves where no backward pass follows."""
        if self._shard:
            from torch.distributed.fsdp import FSDPModule

            for module in model.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()
