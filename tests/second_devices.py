"""Devices that are not there, for models whose layers lie on several: numbers of the CPU that say
they are elsewhere.

As on a GPU, tensors of two devices in one operation are an error, but for single numbers of the CPU
and for the CPU's indices of what lies elsewhere. `torch` knows the name and has nothing behind it.
"""

from __future__ import annotations

from typing import Any

import accelerate
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class _Nowhere(backend_registration._DummyPrivateUse1Hook):
    """Says that the device is not there, so that nobody takes it for the machine's accelerator."""

    def is_available(self) -> bool:
        return False


class _Nothing(backend_registration._DummyBackendModule):
    """`torch.elsewhere`, which says the same."""

    def is_available(self) -> bool:
        return False


backend_registration._setup_privateuseone_for_python_backend(
    "elsewhere", backend_module=_Nothing(), hook=_Nowhere()
)
FIRST, SECOND = torch.device("elsewhere:0"), torch.device("elsewhere:1")
COPIES = ("aten.copy_.default", "aten._to_copy.default")
INDEXING = ("aten.index.Tensor", "aten.index_put_.default", "aten.index_put.default")


class Away(Tensor):
    """A tensor whose numbers, `held`, lie on the CPU."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(
        cls, held: Tensor, device: torch.device | None = None, requires_grad: bool = False
    ) -> Away:  # fmt: skip
        # accelerate makes a parameter anew by its class, of a tensor that is away already.
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined,no-any-return]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=held.device if device is None else device,
        )  # fmt: skip

    def __init__(self, held: Tensor, *_: Any, **__: Any) -> None:
        self.held = held.held if isinstance(held, Away) else held

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.held!r} on {self.device}"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        return _compute(func, args, kwargs or {})


class SecondDevices(TorchDispatchMode):
    """While it is entered, new tensors can be made on FIRST and SECOND."""

    def __enter__(self) -> SecondDevices:
        # `torch.tensor(..., device=)` makes a tensor of the CPU first and moves it where we see it.
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._lifted)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    wanted = kwargs.get("device")
    away = [t for t in tensors if isinstance(t, Away)]
    if not away and (wanted is None or wanted.type != FIRST.type):
        return func(*args, **kwargs)
    name = str(func)
    if name not in COPIES:
        _refuse_mixed(name, args, tensors)
    device = wanted or (args[0].device if name == COPIES[0] else None) or away[0].device
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    wrappers = {id(t.held): t for t in away}

    def bare(leaf: Any) -> Any:
        return leaf.held if isinstance(leaf, Away) else leaf

    def back(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or device.type == "cpu":
            return leaf
        return wrappers.get(id(leaf)) if id(leaf) in wrappers else Away(leaf, device)

    if name == COPIES[0] and not isinstance(args[0], Away):
        func(*tree_map(bare, args), **tree_map(bare, kwargs))
        return args[0]
    out = func(*tree_map(bare, args), **tree_map(bare, kwargs))
    if wanted is not None and device.type == "cpu" and any(out is t.held for t in away):
        return out.clone()
    return tree_map(back, out)


def _refuse_mixed(name: str, args: Any, tensors: list[Tensor]) -> None:
    if name in INDEXING:
        # Where something lies that is indexed, the CPU's indices may be used.
        tensors = [t for t in tensors if t is args[0] or t.device.type != "cpu"]
    found = {t.device for t in tensors if t.dim() or t.device.type != "cpu"}
    if len(found) > 1:
        raise RuntimeError(f"{name}: tensors on several devices, {sorted(map(str, found))}")


def spread(
    model: Any, layers: list[torch.device], first: torch.device = FIRST,
    second: torch.device = SECOND,
) -> Any:  # fmt: skip
    """A model of transformers with its first parts on one device, its head on a second, and its
    layers where it is said."""
    stack = f"{model.base_model_prefix}."
    decoder = model.base_model
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    places: dict[str, torch.device] = {
        f"{stack}{name}": first for name, _ in decoder.named_children() if name != "layers"
    }
    places[f"{stack}norm"] = second
    places["lm_head"] = first if tied else second
    places |= {f"{stack}layers.{index}": place for index, place in enumerate(layers)}
    return accelerate.dispatch_model(model, places, main_device=first, force_hooks=True)
