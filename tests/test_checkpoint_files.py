from __future__ import annotations

import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tests.forked import child
from tlrun.run import RunError, RunFolder, load_checkpoint, save_checkpoint

# Newer Pythons warn of fork in a process with threads; the children here only write files. And they would wait for
# ever for torch's other threads, which fork does not copy.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]


STATE = {
    "digest": "d",
    "model": {"weight": torch.arange(300.0).reshape(3, 100), "steps": torch.tensor(7)},
    "random": torch.get_rng_state()[:64],
    "history": [{"epoch": 0, "loss": 0.1, "phase": "all", "score": None}],
    "tuple": (1, True, b"x"),
}


class Touch:
    """What unpickling makes a file of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return bool(left == right)


def test_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", STATE)
    assert equal(load_checkpoint(tmp_path / "last.pt", digest="d"), {"format": 1, **STATE})
    assert equal(load_checkpoint(tmp_path / "last.pt", digest=None), {"format": 1, **STATE})


def test_parameters_buffers_and_optimizer_state_survive_a_checkpoint(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).to(torch.float64)
    groups = [{"lr": 0.1, "betas": (0.9, 0.999), "foreach": None, "params": [0, 1]}]
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(4, 3)}}, "param_groups": groups}
    save_checkpoint(tmp_path / "last.pt", {"digest": "d", "model": model.state_dict(), "optimizer": optimizer})
    loaded = load_checkpoint(tmp_path / "last.pt", digest="d")
    assert equal(loaded["model"], dict(model.state_dict()))
    assert equal(loaded["optimizer"], optimizer)


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="e")
    assert str(error.value) == (f"{path} belongs to another run (digest d, this run's is e)")


def test_missing_newer_and_strange_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="d")
    assert str(error.value) == f"cannot read {path}: No such file or directory"
    save_checkpoint(path, {**STATE, "format": 2})
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="d")
    assert str(error.value) == f"{path} was written by a newer tlrun (format 2, this one reads 1); update tlrun"
    for content in ({"weight": torch.zeros(2)}, [1, 2]):
        torch.save(content, path)
        with pytest.raises(RunError) as error:
            load_checkpoint(path, digest="d")
        assert str(error.value) == f"{path} was not written by tlrun: it states no format"


def test_checkpoint_that_would_run_code_is_refused_unrun(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"format": 1, "digest": "d", "x": Touch(tmp_path / "touched")}, path)
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="d")
    assert str(error.value) == f"{path} was not written by tlrun: it holds more than tensors and plain values"
    assert not (tmp_path / "touched").exists()


def test_checkpoint_without_a_run_or_with_foreign_objects_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^a checkpoint must name the digest of its run$"):
        save_checkpoint(tmp_path / "last.pt", {"step": 1})
    with pytest.raises(ValueError, match=r"^a checkpoint may hold only tensors and plain values, found .*ndarray"):
        save_checkpoint(tmp_path / "last.pt", {"digest": "d", "state": numpy.random.get_state()})
    assert list(tmp_path.iterdir()) == []


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for content, why in ((b"", "File is not a zip file"), (b"no zip", "File is not a zip file")):
        path.write_bytes(content)
        with pytest.raises(RunError) as error:
            load_checkpoint(path, digest="d")
        assert str(error.value) == f"{path} is damaged ({why})"
    save_checkpoint(path, STATE)
    content = bytearray(path.read_bytes())
    content[content.index(numpy.float32(299).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="d")
    assert str(error.value) == f"{path} is damaged (wrong checksum in archive/data/0)"


def test_no_truncated_or_altered_checkpoint_passes_for_another(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    whole, refused = path.read_bytes(), 0
    draw = random.Random(0)
    for at in draw.sample(range(len(whole)), 100):
        path.write_bytes(whole[:at])
        with pytest.raises(RunError, match="is damaged"):
            load_checkpoint(path, digest="d")
        altered = bytearray(whole)
        altered[at] ^= 1 << draw.randrange(8)
        path.write_bytes(altered)
        try:  # a bit in the padding changes nothing
            assert equal(load_checkpoint(path, digest="d"), {"format": 1, **STATE}), at
        except RunError:
            refused += 1
    assert refused > 25


@pytest.mark.slow
def test_checkpoint_is_whole_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_checkpoint(folder.last, {"digest": "d", "x": torch.zeros(500_000)})
    draw = random.Random(0)
    step, litter = 0, 0
    for _ in range(12):

        def task(pipe: Connection, first: int = step + 1) -> None:
            for number in range(first, first + 10_000):
                save_checkpoint(folder.last, {"digest": "d", "x": torch.full((500_000,), float(number))})
                pipe.send(number)

        with child(task) as (process, pipe):
            pipe.recv()
            time.sleep(draw.uniform(0, 0.02))
            process.kill()
            process.join()
        x = load_checkpoint(folder.last, digest="d")["x"]
        assert bool((x == x[0]).all())
        assert x[0] > step
        step = int(x[0])
        litter += len(list(folder.last.parent.iterdir())) - 1
        with folder.lock(wait=False):
            assert list(folder.last.parent.iterdir()) == [folder.last]
    assert litter > 0, "no kill came during a write: the test shows nothing"
