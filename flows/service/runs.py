"""Take up a run whose worker died, or whose cities failed."""

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterStateType
from prefect.client.schemas.filters import TaskRunFilterState as _StateFilter
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed, Scheduled

from flows.errors import RunError
from flows.record import RunRecord, find_run
from flows.service.processes import Services
from flows.service.setup import api, healthy, worker_online

_PAGE = 200


def resume(key: str, services: Services, *, force: bool = False) -> RunRecord:
    """Schedule a run again: done cities stay, the others go on where their ledger stands.

    A run that the server believes to be running, though its process is gone, is first set to CRASHED by force, and so
    are its task runs; Prefect refuses to retry it otherwise.

    Args:
        key: Id, start of an id, or name of the run.
        services: The services of this machine.
        force: Resume although the run's process cannot be checked, because it ran on another machine.

    Raises:
        RunError: no such run, it is still being worked on, it is complete, or nothing is there to work on it.
    """
    record = find_run(key)
    if not healthy(services):
        raise RunError(f"no server answers at {services.api_url}; run `uvmap up`, then resume")
    if not worker_online(services):
        raise RunError("no worker polls the work pool; run `uvmap up`, then resume")
    with api(services) as client:
        try:
            state = client.read_flow_run(UUID(record.run)).state
        except ObjectNotFound as error:
            raise RunError(
                f"the server at {services.api_url} does not know run {record.run}; start it anew with the same "
                "parameters, finished work is not redone"
            ) from error
        if state is None or not state.is_final() or state.type == StateType.CRASHED:  # by us or by the automation
            _check_owner_gone(record, force=force)
            _set_crashed(client, UUID(record.run))
        elif state.type == StateType.COMPLETED and not record.of_state("failed", "running", "waiting"):
            raise RunError(f"run {record.run} is complete: {record.headline()}")
        client.set_flow_run_state(UUID(record.run), Scheduled(message="Taken up by uvmap resume"), force=True)
    return record


def _check_owner_gone(record: RunRecord, *, force: bool) -> None:
    alive = record.owner.alive()
    if alive:
        raise RunError(
            f"run {record.run} is being worked on by process {record.owner.pid}: {record.headline()}; wait, or cancel "
            f"it with `prefect flow-run cancel {record.run}`"
        )
    if alive is None and not force:
        raise RunError(
            f"run {record.run} ran on {record.owner.host}, whose processes cannot be seen from here; make sure that it "
            "is dead, then `uvmap resume --force`"
        )


def _set_crashed(client: SyncPrefectClient, run: UUID) -> None:
    reason = "The process died; set by uvmap resume"
    unfinished = TaskRunFilter(
        state=_StateFilter(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
    )
    orphans = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])), task_run_filter=unfinished, limit=_PAGE
    )
    for orphan in orphans:
        client.set_task_run_state(orphan.id, Crashed(message=reason), force=True)
    client.set_flow_run_state(run, Crashed(message=reason), force=True)
