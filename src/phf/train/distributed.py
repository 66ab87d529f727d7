"""The processes that train a model together: their group, precision, shards of the model, and signals."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from phf import config
from phf.errors import InputError
from phf.learner import Learner


def setup(options: config.Train, needs_value: bool) -> Accelerator:
    """Join the process group that `torchrun` or `accelerate launch` started, or be the only process.

    Args:
        options: of the run.
        needs_value: whether the learner has a value head.

    Raises:
        InputError: for options that do not fit the number of processes or the machine.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        raise InputError("accelerate launch --use_fsdp: sharding is asked for by train.shard=true; launch without --use_fsdp")
    if options.kernel == "triton" and not torch.cuda.is_available():
        raise InputError("train.kernel is triton, which needs a GPU, and PyTorch finds none; set it to torch")
    AcceleratorState._reset_state()  # accelerate keeps one precision a process; each run chooses its own
    # A value head has no gradient in the steps under maximum likelihood.
    unused = DistributedDataParallelKwargs(find_unused_parameters=needs_value and options.start > 0)
    accelerator = Accelerator(
        mixed_precision="bf16" if multiplies_in_bf16(options.precision) else "no",
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[unused],
    )
    world = accelerator.num_processes
    if options.batch % world:
        raise InputError(f"train.batch is {options.batch}; expected a multiple of {world} processes")
    if options.shard and world == 1:
        raise InputError("train.shard: there is one process; start several: torchrun --nproc-per-node N -m phf train ...")
    return accelerator


def wrap_model(
    learner: Learner, make_optimizer: Callable[[], torch.optim.Optimizer], accelerator: Accelerator, shard: bool
) -> tuple[Any, Any]:
    """Move a learner to this process's device: a copy of it in each process, or a shard of each of its layers (FSDP).

    Args:
        learner: on the CPU, the same in all processes; sharded in place.
        make_optimizer: called once its parameters will not be replaced any more.
        accelerator: of the processes.
        shard: whether each process holds a shard instead of a copy.

    Returns:
        What to call in place of the learner, and the optimizer as accelerate wraps it.
    """
    if not shard:
        wrapped, optimizer = accelerator.prepare(learner, make_optimizer())
        return wrapped, optimizer
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    learner.to(accelerator.device)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    layers = set(learner.model._no_split_modules or ())
    for module in learner.model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(learner, mesh=mesh)
    return learner, accelerator.prepare(make_optimizer())


_SAME_SIGNAL = 5.0
"""Seconds within which a repeated signal counts as one: a terminal sends it to the whole group, and a parent forwards it."""


class Signals:
    """A context in which SIGINT and SIGTERM request a stop after the step; a second one, seconds later, works as usual."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._received, self._at = 0, 0.0
        self._usual: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (int(signal.SIGINT), int(signal.SIGTERM)):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._usual[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    def received(self) -> int:
        """Return the signal that any process received, 0 for none: all stop at the same step."""
        if self._accelerator.num_processes == 1:
            return self._received
        signals = torch.tensor([self._received], device=self._accelerator.device)
        return int(self._accelerator.gather(signals).max())

    def _receive(self, number: int, _: Any) -> None:
        if not self._received:
            self._received, self._at = number, time.monotonic()
        elif time.monotonic() - self._at > _SAME_SIGNAL:
            signal.signal(number, self._usual[number])
            signal.raise_signal(number)


def multiplies_in_bf16(precision: str) -> bool:
    """Return whether to multiply in bf16: when set, or under `auto` on a device that does so natively."""
    if precision == "auto":
        return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return precision == "bf16"
