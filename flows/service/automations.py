"""Automations of the server: runs that fall silent are marked as crashed."""

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENT_RUNS = "uvmap: silent runs are crashed"
BEAT_S = 30
"""A run says this often that it lives; the shortest that Prefect takes."""
SILENT_S = 150
"""A run that has not been heard for so long is taken for dead: five beats, as a busy machine misses some."""
_BEAT = "prefect.flow-run.heartbeat"
_ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}


def ensure_automations(client: SyncPrefectClient) -> None:
    """Make the automation where it is not there; one that an operator has changed or switched off stays as it is."""
    if not client.read_automations_by_name(SILENT_RUNS):
        client.create_automation(silent_runs())


def silent_runs(*, within_s: int = SILENT_S) -> AutomationCore:
    """After a beat another one is expected, or an end; where neither comes, the run is set to CRASHED."""
    return AutomationCore(
        name=SILENT_RUNS,
        description=f"A run that has not been heard for {within_s} s has died with its machine or its worker",
        trigger=EventTrigger(
            after={_BEAT},
            expect={_BEAT, *_ENDS},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[
            ChangeFlowRunState(
                name=None, state=StateType.CRASHED, message="silent; `uvmap resume` takes it up", force=False
            )
        ],
    )
