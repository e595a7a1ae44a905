"""Slots of the server's limits: so many stages at once over all machines of a work pool."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect.concurrency.sync import concurrency

from flows.errors import StageFailedError

GPU_LIMIT = "uvmap-gpu"
CPU_LIMIT = "uvmap-cpu"
LEASE_S = 60.0
"""Slots of a killed run come free after this long; the shortest lease that the server grants."""
ASK_AGAIN_S = 5.0
"""A thread that waits for a slot looks this often whether its run is stopping."""


@contextmanager
def slot_of_limit(name: str, *, stopping: threading.Event | None = None) -> Iterator[None]:
    """Hold one slot of a limit of the server; wait for it as long as it takes.

    A server that is away for a while must not kill hours of healthy work: a lease that is lost ends nothing, as the
    lock files of `flows.locks` keep two stages off one GPU and off one city all the same.

    Args:
        name: `GPU_LIMIT` or `CPU_LIMIT`.
        stopping: Set by whoever stops the run, so that no thread outlives it waiting for a slot.

    Raises:
        StageFailedError: the run is stopping.
        ConcurrencySlotAcquisitionError: the server has no such limit.
    """
    with ExitStack() as held:
        while True:
            if stopping is not None and stopping.is_set():
                raise StageFailedError(f"the run was stopped before a slot of {name} came free")
            asked = concurrency(
                name,
                occupy=1,
                strict=True,
                lease_duration=LEASE_S,
                raise_on_lease_renewal_failure=False,
                timeout_seconds=None if stopping is None else ASK_AGAIN_S,
            )
            try:
                held.enter_context(asked)
            except TimeoutError:
                continue
            break
        yield
