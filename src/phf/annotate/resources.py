"""Devices, cores and memory that scoring processes may use."""

from phf import config
from phf.machine import total_memory, usable_cores, visible_gpus
from phf.scorers import DeviceScorer, RemoteScorer, Scorer


def scorer_devices(options: config.Annotate) -> set[str]:
    """Return the devices that scorers ask for, without the CPU."""
    return {scorer.device for scorer in _scorers(options) if isinstance(scorer, DeviceScorer)} - {"cpu"}


def has_remote_scorer(options: config.Annotate) -> bool:
    """Return whether a scorer waits for a server."""
    return any(isinstance(scorer, RemoteScorer) for scorer in _scorers(options))


def worker_environments(options: config.Annotate) -> list[dict[str, str]]:
    """Return the environment variables of each worker: with GPUs, one worker a GPU that sees no other; without, one a core.

    For a scorer that waits for a server, one worker in all: it sends its requests side by side.
    """
    if has_remote_scorer(options):
        return [{}] * (options.workers or 1)
    devices = scorer_devices(options)
    gpus = visible_gpus() if devices else []
    if gpus and not devices <= {"auto", "cuda"}:
        environments: list[dict[str, str]] = [{}]  # a GPU is asked for by its number: one worker, which sees all of them
    else:
        environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}] * usable_cores()
    return [environments[worker % len(environments)] for worker in range(options.workers or len(environments))]


def _scorers(options: config.Annotate) -> list[Scorer]:
    return [config.build("scorers", component) for component in (options.scorer, *options.also.values())]


def memory_per_worker(workers: int) -> float:
    """Return the GiB that a worker may hold: its share of 80% of the memory of this machine, and at least 2."""
    return max(2.0, 0.8 * total_memory() / 2**30 / workers)
