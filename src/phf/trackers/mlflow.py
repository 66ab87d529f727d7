"""MLflow: a run of the experiment that the recipe is, on the server or store that MLFLOW_TRACKING_URI names."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from phf.layout import split_seed
from phf.trackers.protocol import Session, Tracker

ADVICE = "does MLFLOW_TRACKING_URI name a server or store that is there?"
_FORBIDDEN = re.compile(r"[^\w\-. /]")
"""What MLflow does not allow in names of metrics and parameters, such as the @ of pass@1."""
_AT_ONCE = 100
"""Parameters in one request, by MLflow's limit."""
_LONGEST = 6000
"""Characters of a parameter's value, by MLflow's limit."""


def open_run(session: Session) -> Tracker:
    """Open the run, or go on with it."""
    return _MLflow(session)


class _MLflow:
    def __init__(self, session: Session) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client: Any = MlflowClient()
        if session.id is not None:
            self.id = session.id
            self._client.set_terminated(self.id, "RUNNING")
            return
        tags = {"group": split_seed(session.run)[0]}
        self.id = str(self._client.create_run(self._experiment(session.project), run_name=session.run, tags=tags).info.run_id)
        parameters = [Param(_name(key), str(value)[:_LONGEST]) for key, value in session.flat_config().items()]
        for first in range(0, len(parameters), _AT_ONCE):
            self._client.log_batch(self.id, params=parameters[first : first + _AT_ONCE])

    def _experiment(self, project: str) -> str:
        """Return the identifier of an experiment, made if it does not exist; another run may make it meanwhile."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(project)
        if found is None:
            try:
                return str(self._client.create_experiment(project))
            except MlflowException:
                found = self._client.get_experiment_by_name(project)
                if found is None:
                    raise
        return str(found.experiment_id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[Metric(_name(key), value, now, step) for key, value in values.items()])

    def table(self, name: str, columns: Mapping[str, Sequence[Any]], step: int) -> None:
        data = {key: list(values) for key, values in columns.items()}
        self._client.log_table(self.id, data, f"{_name(name)}-step-{step}.json")

    def close(self) -> None:
        self._client.set_terminated(self.id)


def _name(name: str) -> str:
    return _FORBIDDEN.sub("_", name)
