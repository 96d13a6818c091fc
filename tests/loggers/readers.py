"""What is in a tool's log, read back by the tool itself: for each name its values in the order of their epochs."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from tlrun.run import RunFolder

BLOCK = 32768

Series = dict[str, list[tuple[int, float]]]


def of_tensorboard(folder: RunFolder) -> Series:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len(list(folder.tensorboard.iterdir())) == 1
    events = EventAccumulator(str(folder.tensorboard), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]}


def of_mlflow(folder: RunFolder) -> Series:
    run, client = mlflow_run(folder)
    assert run.info.status == "FINISHED"
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: sorted((each.step, each.value) for each in history) for name, history in histories.items()}


def mlflow_run(folder: RunFolder) -> tuple[Any, Any]:
    """The one run of this folder's name, and the client that found it."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder.path.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tlrun")
    assert experiment is not None
    name = f"attributes.run_name = '{folder.path.name}'"
    (run,) = client.search_runs([experiment.experiment_id], filter_string=name)
    return run, client


def of_wandb(folder: RunFolder) -> Series:
    found: Series = defaultdict(list)
    for record in wandb_records(folder):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name, value in items.items():
                if not name.startswith("_"):
                    found[name].append((items["_step"], value))
        elif record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                value = json.loads(item.value_json)
                if isinstance(value, int | float) and item.key.startswith("summary/"):
                    found[item.key] = [(0, value)]
    return dict(found)


def wandb_records(folder: RunFolder) -> list[Any]:
    """All that the one offline log of a folder holds. W&B reads such a log in no language but Go: it is a LevelDB log
    of protocol buffers, in blocks of 32 KiB, behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.wandb.glob("offline-run-*/run-*.wandb")
    data, at, records, pieces = path.read_bytes(), 7, [], b""
    assert data[:4] == b":W&B"
    while len(data) - at >= 7:
        if BLOCK - at % BLOCK < 7:  # no header fits: the block is padded
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            records.append(wandb_internal_pb2.Record.FromString(pieces))
            pieces = b""
    return records


READERS: dict[str, Callable[[RunFolder], Series]] = {
    "tensorboard": of_tensorboard,
    "mlflow": of_mlflow,
    "wandb": of_wandb,
}
