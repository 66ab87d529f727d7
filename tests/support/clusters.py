"""Ray clusters of several nodes on this machine."""

import contextlib

import pytest


@contextlib.contextmanager
def cluster(nodes=2, cores=1):
    """A cluster of a node for this process, without cores, and others that have some."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    # No process is started ahead of need, and none gives way to other programs of the machine.
    quiet = {"enable_worker_prestart": False, "prestart_worker_first_driver": False, "worker_niceness": 0}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quiet, **small})
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=cores, **small)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()
