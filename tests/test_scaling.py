"""`kdcourse.scaling` in two real processes (gloo, one thread each), started as anyone starts them: by torchrun.

One run is killed, the next goes on from its checkpoint and does all the rest (`tests/scaling_worker.py`); the tests
read what the two processes found. Each run has a port of its own and a time limit: nothing here may wait for ever.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("accelerate", reason="pip install 'kdcourse[scale]'")

HERE = Path(__file__).resolve().parent
PLACES = f"{HERE.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


def torchrun(*arguments, processes=2, script=HERE / "scaling_worker.py"):
    """Start ``script`` in ``processes`` processes, which find each other at a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "PYTHONPATH": PLACES, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, str(script), *map(str, arguments)], env=environment, **pipes) as launch:
        try:
            out, err = launch.communicate(timeout=240)
        finally:
            launch.terminate()  # if it still runs: torchrun then ends its processes
    return subprocess.CompletedProcess(launch.args, launch.returncode, out, err)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with the checkpoint of a run of which process 1 was killed, and how it ended."""
    folder = tmp_path_factory.mktemp("scaling")
    return folder, torchrun(folder, "kill")


@pytest.fixture(scope="module")
def found(killed):
    """What the two processes found."""
    folder, _ = killed
    ended = torchrun(folder, "all")
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / f"found-{process}.json").read_text(encoding="utf-8")) for process in (0, 1)]


def test_a_dead_process_ends_the_run_and_leaves_the_last_epoch_that_all_had_finished(killed):
    folder, ended = killed
    assert ended.returncode != 0
    assert "Signal 9 (SIGKILL)" in ended.stderr
    assert [path.name for path in (folder / "run").iterdir()] in (["epoch-00002"], ["epoch-00002", "epoch-00003"])
    assert not (folder / "run" / "epoch-00003" / "history.json").exists()


def test_a_killed_run_goes_on_and_ends_bit_for_bit_where_it_would_have(found):
    for process in found:
        rows, weights, losses = process["whole"]
        assert process["resumed"] == [rows[44:], weights, losses]  # the rows of epochs 3 and 4 alone


def test_the_order_is_another_in_each_epoch_and_each_row_is_read_once_by_one_process(found):
    epochs = []
    for number in range(4):
        shares = [process["whole"][0][22 * number : 22 * (number + 1)] for process in found]
        assert sorted(shares[0] + shares[1]) == list(range(44))
        epochs.append(shares[0])
    assert len({tuple(each) for each in epochs}) == 4


def test_both_processes_end_with_the_same_weights(found):
    assert found[0]["whole"][1] == found[1]["whole"][1]
    assert found[0]["runs"] == found[1]["runs"]


def test_the_gradient_of_any_partition_is_that_of_the_whole_batch(found):
    assert max(process["partitions"] for process in found) < 1e-12


@pytest.mark.parametrize("name", ["plain", "accumulated and clipped"])
def test_two_processes_end_where_one_does(found, name):
    assert found[0]["runs"][name]["1"] < 1e-12
    assert found[0]["runs"][name]["is bare"]


def test_batch_norm_sees_its_own_share_alone(found):
    assert found[0]["runs"]["batch norm"]["2"] < 1e-12
    assert found[0]["runs"]["batch norm"]["1"] > 1e-3


def test_pytorch_refuses_synced_batch_norm_on_cpus(found):
    assert "only work with GPU" in found[0]["synced"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a last batch for one process", "unequal numbers of batches: a batch of 1 rows gives some of 2 processes"),
        ("batches for one process", "unequal numbers of batches: a batch of 1 rows"),
        ("another number of rows in process 1", "processes 0 and 1 differ in batches, rows"),
        ("another teacher in process 1", "processes 0 and 1 differ in teacher"),
        ("other classes", "logits of shape (4, 6, 3) and teacher logits of (4, 6, 5) differ"),
        ("other classes in process 1", "processes 0 and 1 differ in teacher"),
        ("another temperature in process 1", "processes 0 and 1 differ in temperature"),
        ("a sampler that draws", "a WeightedRandomSampler may draw another order in each process"),
        ("a wrong option in process 1", "process 1 of 2 cannot begin: ValueError: batch_size= is for one process"),
        ("labels nowhere", "no position of a step is left in any process"),
        ("not a loader", "several processes need a DataLoader"),
        ("the checkpoint of another run", "the checkpoint of another run, which differs in learning_rate"),
    ],
)
def test_every_process_refuses_in_the_same_sentence(found, name, sentence):
    said = {process["refusals"][name] for process in found}
    assert len(said) == 1
    assert sentence in said.pop()


def test_the_mean_holds_in_a_loop_of_your_own_where_pytorch_shards_the_weights(found):
    assert max(process["sharded"] for process in found) < 1e-12


def test_an_all_reduce_has_the_right_value_and_a_gradient_that_depends_on_how_it_was_made(found):
    for process in found:
        value, low, high = process["reduced"]["in place"]  # PyTorch warns that this will be removed
        assert (value, low, high) == pytest.approx((0.0, 1.0, 1.0))
        value, low, high = process["reduced"]["known to autograd"]  # once for the loss of each process
        assert (value, low, high) == pytest.approx((0.0, 2.0, 2.0))


def test_fsdp_is_refused_where_accelerate_would_leave_it_out_without_a_word(found):
    assert "Accelerate runs MULTI_CPU here" in found[0]["fsdp"]


def test_half_precision_keeps_the_weights_and_trackers_get_each_epoch_once(found):
    half = found[0]["half"]
    assert half["dtype"] == "torch.float32"
    assert half["own"]
    assert 1e-7 < half["change"] < 1e-2
    assert [line["step"] for line in half["lines"]] == [0, 1]
    assert [line["learning_rate"] for line in half["lines"]] == pytest.approx([2e-3 * 3 / 4, 2e-3 / 4])
    assert found[1]["half"]["lines"] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: FSDP and synced batch norm need one")
@pytest.mark.parametrize("arm", ["ddp", "fsdp", "synced"])
def test_on_gpus_the_run_ends_where_it_does_on_the_cpu(tmp_path, arm):
    script = HERE / "scaling_gpu_worker.py"
    ended = torchrun(tmp_path, arm, processes=torch.cuda.device_count(), script=script)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["distance"] < 1e-4


def test_one_process_needs_no_launcher_and_trains_as_training_does():
    from accelerate import Accelerator
    from torch.utils.data import DataLoader, TensorDataset

    from kdcourse import scaling, training

    inputs, ends = torch.randn(30, 4), []
    for run, options in (
        (scaling.distill, {"accelerator": Accelerator(cpu=True)}),
        (training.distill, {"progress": False}),
    ):
        torch.manual_seed(1)
        student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
        loader = DataLoader(TensorDataset(inputs, torch.arange(30) % 3), batch_size=8)
        run(student, teacher, loader, epochs=3, **options)
        ends.append(student.weight)
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-7)


def test_a_step_without_positions_leaves_gradients_of_zero():
    from accelerate import Accelerator

    from kdcourse.scaling import mean_gradients

    accelerator, layer = Accelerator(cpu=True), nn.Linear(4, 3)
    accelerator.backward((layer(torch.randn(2, 4)) * 0).sum())
    assert mean_gradients(accelerator, layer.parameters(), 0) == 0
    assert torch.equal(layer.weight.grad, torch.zeros(3, 4))


def test_what_is_one_processs_affair_is_refused():
    from accelerate import Accelerator

    from kdcourse.scaling import distill

    with pytest.raises(ValueError, match="validation= is for one process"):
        distill(nn.Linear(2, 2), nn.Linear(2, 2), [], accelerator=Accelerator(cpu=True), epochs=1, validation=[])
