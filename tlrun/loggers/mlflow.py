"""MLflow: a run in the experiment `tlrun`, in `mlflow.db` under run.root or wherever MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlrun.config import ExperimentConfig, flatten
from tlrun.loggers.base import figures
from tlrun.run import RunFolder

EXPERIMENT = "tlrun"
"""Where MLFLOW_EXPERIMENT_NAME does not say otherwise."""


class MlflowLogger:
    """A metric for each column of metrics.csv, by epoch; settings as parameters, the summary's figures as metrics.

    MLflow cannot take a figure back. So a run that goes on adds to its old MLflow run what is not in it yet; that is
    the whole of it where that run was deleted or another store is named.
    """

    def start(self, folder: RunFolder, config: ExperimentConfig, known: Mapping[str, Any]) -> dict[str, Any]:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it tells its makers of what it does
        import mlflow

        own = f"sqlite:///{Path(config.run.root).absolute() / 'mlflow.db'}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or own
        self.client = mlflow.MlflowClient(tracking_uri=uri)
        self.run_id = str(known.get("run", ""))
        self.logged: dict[str, set[int]] = {}
        where = without_password(uri)
        if known.get("where") == where and self._is_there():
            self.client.update_run(self.run_id, status="RUNNING")
            for name in self.client.get_run(self.run_id).data.metrics:
                self.logged[name] = {each.step for each in self.client.get_metric_history(self.run_id, name)}
        else:
            self.run_id = self._create(folder, config)
        return {"where": where, "run": self.run_id}

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.last = int(row["epoch"])
        self._log(figures(row))

    def end(self, summary: Mapping[str, Any] | None) -> None:
        if summary is not None:
            self._log({f"summary/{name}": value for name, value in figures(summary).items()})
        self.client.set_terminated(self.run_id, "KILLED" if summary is None else "FINISHED")

    def _is_there(self) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(self.run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _create(self, folder: RunFolder, config: ExperimentConfig) -> str:
        from mlflow.entities import Param

        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
        tags = {"tlrun.folder": str(folder.path.absolute())}
        run_id = str(self.client.create_run(experiment, run_name=folder.path.name, tags=tags).info.run_id)
        parameters = [Param(key, str(value)) for key, value in flatten(config.to_dict()).items()]
        for first in range(0, len(parameters), 100):  # MLflow takes no more at a time
            self.client.log_batch(run_id, params=parameters[first : first + 100])
        return run_id

    def _experiment(self, name: str) -> str:
        """The id of the experiment so called, made if it is not there."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = self.client.get_experiment_by_name(name)
        assert found is not None
        return str(found.experiment_id)

    def _log(self, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        new = {name: value for name, value in values.items() if self.last not in self.logged.get(name, ())}
        self.client.log_batch(self.run_id, [Metric(name, value, now, self.last) for name, value in new.items()])


def without_password(uri: str) -> str:
    """An address without the user's name and password in it: loggers.json is no place for these."""
    return re.sub(r"(?<=//)[^/@]*@", "", uri)
