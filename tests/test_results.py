"""The stored results: a job that is killed goes on where it stopped, and what the notebooks draw from is whole."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdcourse import data
from kdcourse._base.files import digest_of
from kdcourse.data import Mnist, Split, load_mnist
from kdcourse.export import session
from kdcourse.models import conv_net

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"
sys.path.insert(0, str(RESULTS))
import adapters  # noqa: E402 (the jobs are scripts, no package)
import attacks  # noqa: E402
import attacks_rates  # noqa: E402
import augmentation  # noqa: E402
import baselines  # noqa: E402
import blocks  # noqa: E402
import capstone_ablation  # noqa: E402
import chain_in_runtime  # noqa: E402
import distillation  # noqa: E402
import domains  # noqa: E402
import few_labels  # noqa: E402
import hinton2015  # noqa: E402
import lenet_smaller  # noqa: E402
import low_rank  # noqa: E402
import privacy  # noqa: E402
import scaling  # noqa: E402
import store  # noqa: E402
import subliminal  # noqa: E402
import two_tasks  # noqa: E402

RECIPE = {"learning_rate": 0.1, "hidden": (4, 4)}


def boom() -> store.Record:
    raise AssertionError("measured again")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_stored_was_measured_by_the_recipe_that_stands_in_the_job(path):
    assert store.load(path)["recipe"] == json.loads(json.dumps(importlib.import_module(path.stem).RECIPE))


def test_a_number_altered_by_hand_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "results" / "job.json"
    store.resume(path, {"seed": 0}, lambda: {"test": 0.9512}, recipe=RECIPE)
    monkeypatch.setattr(data, "data_dir", lambda: tmp_path)
    assert data.load_results("job")["records"][0]["test"] == 0.9512
    path.write_text(path.read_text().replace("0.9512", "0.9012"))
    with pytest.raises(ValueError, match="not those that were stored"):
        store.load(path)
    with pytest.raises(ValueError, match="not as its job stored it"):
        data.load_results("job")


@pytest.mark.parametrize("name", ["teacher", "language_teacher"])
def test_a_shipped_teachers_record_is_as_its_job_stored_it(name):
    record = json.loads((ROOT / "data" / f"{name}.json").read_text(encoding="utf-8"))
    assert record["digest"] == digest_of(record)
    assert record["recipe"] == importlib.import_module(name).RECIPE


def test_a_finished_record_is_not_measured_again(tmp_path):
    path = tmp_path / "job.json"
    first = store.resume(path, {"seed": 0, "arm": "alone"}, lambda: {"errors": 3}, recipe=RECIPE)
    assert store.resume(path, {"seed": 0, "arm": "alone"}, boom, recipe=RECIPE) == first
    store.resume(path, {"seed": 1, "arm": "alone"}, lambda: {"errors": 4}, recipe=RECIPE)
    stored = store.load(path)
    assert [record["errors"] for record in stored["records"]] == [3, 4]
    assert all(record["seconds"] >= 0 for record in stored["records"])
    assert store.find(stored, {"seed": 2}) is None


def test_all_keys_are_measured_in_their_order_and_only_once(tmp_path):
    path, measured = tmp_path / "job.json", []

    def measure(arm: str, seed: int) -> store.Record:
        measured.append((arm, seed))
        return {"errors": 10 * seed}

    keys = [{"arm": arm, "seed": seed} for seed in (0, 1) for arm in ("alone", "taught")]
    store.resume_all(path, keys[:3], measure, recipe=RECIPE)
    store.resume_all(path, keys, measure, recipe=RECIPE)
    assert measured == [("alone", 0), ("taught", 0), ("alone", 1), ("taught", 1)]
    assert [record["errors"] for record in store.load(path)["records"]] == [0, 0, 10, 10]


def test_a_failed_measurement_stores_nothing(tmp_path):
    path = tmp_path / "job.json"
    store.resume(path, {"seed": 0}, lambda: {"errors": 3}, recipe=RECIPE)
    before = path.read_bytes()
    with pytest.raises(AssertionError):
        store.resume(path, {"seed": 1}, boom, recipe=RECIPE)
    assert path.read_bytes() == before


def test_what_is_measured_does_not_take_the_name_of_a_key(tmp_path):
    path = tmp_path / "job.json"
    with pytest.raises(ValueError, match=r"alters the key \(bits\)"):
        store.resume(path, {"bits": 4}, lambda: {"bits": 1.53}, recipe=RECIPE)
    assert not path.exists()
    assert store.resume(path, {"bits": 4}, lambda: {"bits": 4, "lost": 0.1}, recipe=RECIPE)["lost"] == 0.1


def test_another_recipe_or_environment_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "job.json"
    store.resume(path, {"seed": 0}, lambda: {}, recipe=RECIPE)
    with pytest.raises(ValueError, match=r"another recipe \(learning_rate\)"):
        store.resume(path, {"seed": 1}, boom, recipe={**RECIPE, "learning_rate": 0.2})
    monkeypatch.setattr(store.platform, "python_version", lambda: "3.0")
    assert store.resume(path, {"seed": 0}, boom, recipe=RECIPE)["seed"] == 0  # reading is free
    with pytest.raises(ValueError, match=r"another environment \(python\)"):
        store.resume(path, {"seed": 1}, boom, recipe=RECIPE)


def test_a_write_that_breaks_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "job.json"
    store.write_json(path, {"records": [1]})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(path, {"records": [1, float("nan")]})

    def full_disk(*names: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(store.os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        store.write_json(path, {"records": [2]})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["job.json"]


def test_a_missing_or_damaged_file_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="make results JOB=job"):
        store.load(tmp_path / "job.json")
    for text in ('{"recipe": {', "{}", "[]"):
        (tmp_path / "job.json").write_text(text)
        with pytest.raises(ValueError, match="delete it"):
            store.load(tmp_path / "job.json")


def test_the_environment_names_versions_and_a_kind_of_machine():
    found = store.environment()
    assert set(found) == {"python", "torch", "kdcourse", "machine"}
    assert found["torch"] == torch.__version__.split("+")[0]
    assert "CPU" in found["machine"]


HANGS = """
import sys, time
sys.path.insert(0, sys.argv[1])
import store
store.resume(sys.argv[2], {"seed": 0}, lambda: {"errors": 3}, recipe={})
store.resume(sys.argv[2], {"seed": 1}, lambda: print("begun", flush=True) or time.sleep(600), recipe={})
"""


def test_a_killed_job_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "job.json"
    with subprocess.Popen([sys.executable, "-c", HANGS, str(RESULTS), str(path)], stdout=subprocess.PIPE) as job:
        try:
            assert job.stdout.readline().strip() == b"begun"
        finally:
            job.kill()
    assert os.listdir(tmp_path) == ["job.json"]
    assert store.resume(path, {"seed": 0}, boom, recipe={})["errors"] == 3
    store.resume(path, {"seed": 1}, lambda: {"errors": 4}, recipe={})
    assert [record["errors"] for record in store.load(path)["records"]] == [3, 4]


# ---- hinton2015


def test_the_stored_table_is_whole():
    stored = store.load(hinton2015.RESULTS)
    assert stored["recipe"] == json.loads(json.dumps(hinton2015.RECIPE)), "measured with another recipe"
    assert set(stored["environment"]) == set(store.environment())
    assert len(hinton2015.SEEDS) >= 3
    for seed in hinton2015.SEEDS:
        for arm, keys in hinton2015.PAPER.items():
            record = store.find(stored, {"seed": seed, "arm": arm})
            assert record is not None, (seed, arm)
            assert keys.keys() | {"validation_errors", "seconds"} <= record.keys()
        assert record["test_images_of_missing"] == 1010, "not the full test split"


def test_the_stored_table_reaches_the_numbers_the_course_claims():
    stored = store.load(hinton2015.RESULTS)
    for seed in hinton2015.SEEDS:
        found = {arm: store.find(stored, {"seed": seed, "arm": arm}) for arm in hinton2015.PAPER}
        teacher, alone, distilled = (found[arm]["errors"] for arm in ("teacher", "alone", "distilled"))
        assert teacher <= 85
        assert distilled <= 100
        assert (alone - distilled) / (alone - teacher) >= 0.7
        missing = found["missing"]
        assert 1 - missing["errors_on_missing_corrected"] / missing["test_images_of_missing"] >= 0.97


def test_the_job_runs_on_a_few_digits_and_goes_on(tmp_path, monkeypatch):
    # of the embedded digits, so that this needs no download; they lie sorted by class
    digits = Mnist(*(Split(split.images[::9], split.labels[::9]) for split in load_mnist()))
    recipe = json.loads(json.dumps(hinton2015.RECIPE))
    for who in ("teacher", "student"):
        recipe[who]["network"]["hidden"] = [32]
        recipe[who]["training"]["epochs"] = 2
    path = tmp_path / "hinton2015.json"
    # the job breaks off after the student alone, and the teacher it will need again is kept
    with monkeypatch.context() as patch:
        patch.setattr(store, "distill", lambda *args, **kwargs: boom())
        with pytest.raises(AssertionError):
            hinton2015.run_seed(digits, 0, path, recipe, progress=False)
    assert [record["arm"] for record in store.load(path)["records"]] == ["teacher", "alone"]
    with monkeypatch.context() as patch:
        patch.setattr(store, "fit", lambda *args, **kwargs: boom())
        records = hinton2015.run_seed(digits, 0, path, recipe, progress=False)
    assert list(records) == list(hinton2015.PAPER)
    for arm, keys in hinton2015.PAPER.items():
        assert keys.keys() <= records[arm].keys()
    assert records["missing"]["test_images_of_missing"] == int((digits.test.labels == 3).sum()) > 0
    assert os.listdir(tmp_path) == ["hinton2015.json"]


def test_the_bias_is_the_middle_of_the_best_range():
    # right answers 3, 3, 0: class 3 lags by 1 and by 2, and must not rise by 4
    logits = torch.zeros(3, 10)
    logits[:, 0] = torch.tensor([1.0, 2.0, 4.0])
    bias = hinton2015.choose_bias(logits, torch.tensor([3, 3, 0]), 3, 20.0)
    assert bias == pytest.approx(3.0, abs=0.06)
    assert hinton2015.count_errors(hinton2015.corrected(logits, 3, bias), torch.tensor([3, 3, 0])) == 0
    assert logits[0, 3] == 0  # the argument is left alone


@pytest.mark.parametrize("job", [augmentation, distillation], ids=lambda job: job.__name__)
def test_every_arm_is_stored_for_every_seed_by_the_recipe_in_the_code(job):
    stored = store.load(job.RESULTS)
    measured = [(record["arm"], record["seed"]) for record in stored["records"] if "arm" in record]
    assert sorted(measured) == sorted((arm, seed) for arm in job.ARMS for seed in job.SEEDS)
    assert stored["recipe"] == json.loads(json.dumps(job.RECIPE))


@pytest.mark.parametrize("arm", ["alone", "distilled", "placebo"])
def test_a_stored_arm_can_be_measured_again(arm):
    stored = store.find(store.load(distillation.RESULTS), {"arm": arm, "seed": 0})
    again = distillation.measure(arm, 0)
    # another instruction set rounds differently: the five seeds of an arm lie within 0.7 point of their mean
    assert again["test"] == pytest.approx(stored["test"], abs=0.012)
    assert again["agreement"] == pytest.approx(stored["agreement"], abs=0.015)


TRIED = pytest.mark.parametrize("job", [domains, few_labels, two_tasks], ids=lambda job: job.__name__)


@TRIED
def test_every_try_of_every_arm_is_stored_for_every_seed(job):
    stored = store.load(job.RESULTS)["records"]
    measured = [record for record in stored if "arm" in record]
    assert len(measured) == len(job.wanted())
    assert all(any(key.items() <= record.items() for record in measured) for key in job.wanted())


@TRIED
def test_arms_have_equally_many_tries(job):
    tries = {}
    for key in job.wanted():
        if job is not domains or key["arm"] not in ("zero-shot", "batch norm re-estimated", "all labels"):
            arm = (key["arm"], key.get("direction"), key.get("labels"))
            tries[arm] = tries.get(arm, 0) + 1
    assert set(tries.values()) == {2 * len(job.SEEDS)}


@pytest.mark.parametrize(
    ("job", "arm"),
    [(domains, "fine-tuned"), (few_labels, "labels only"), (two_tasks, "one trunk, labels")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_stored_try_can_be_measured_again(job, arm):
    key = next(key for key in job.wanted() if key["arm"] == arm)
    # another instruction set rounds differently: the five seeds of an arm lie within 4 points of each other
    assert job.measure(**key)["test"] == pytest.approx(store.find(store.load(job.RESULTS), key)["test"], abs=0.03)


INSIDE = pytest.mark.parametrize("job", [adapters, blocks, low_rank], ids=lambda job: job.__name__)


@INSIDE
def test_every_arm_of_notebook_14_is_stored_for_every_seed(job):
    stored = store.load(job.RESULTS)["records"]
    assert len(stored) == len(job.wanted())
    assert all(any(key.items() <= record.items() for record in stored) for key in job.wanted())


@INSIDE
def test_every_seed_of_notebook_14_chose_the_best_of_equally_many_rates(job):
    trained = [record for record in store.load(job.RESULTS)["records"] if "tried" in record]
    assert len(trained) >= 40
    for record in trained:
        assert len(record["tried"]) == len(job.RATES)
        assert record["validation"] == max(record["tried"]) == record["tried"][job.RATES.index(record["chosen"])]


@pytest.mark.parametrize(
    ("job", "key"),
    [
        (adapters, {"arm": "batch norm re-estimated", "seed": 0}),
        (adapters, {"arm": "rank 1", "seed": 0}),
        (blocks, {"arm": "end to end, half the steps", "seed": 0}),
        (low_rank, {"arm": "outputs", "rank": 5, "seed": 0}),
        (low_rank, {"arm": "random", "loss": "labels", "seed": 0}),
    ],
    ids=lambda value: getattr(value, "__name__", "") or value["arm"],
)
def test_an_arm_of_notebook_14_can_be_measured_again(job, key):
    # another instruction set rounds differently: the five seeds of an arm lie within 6 points of each other
    assert job.measure(**key)["test"] == pytest.approx(store.find(store.load(job.RESULTS), key)["test"], abs=0.04)


def test_the_chosen_try_is_the_best_on_validation_and_the_first_of_equals(tmp_path):
    path = tmp_path / "job.json"
    for rate, accuracies in {0.1: (0.5, 0.9), 0.2: (0.8, 0.6), 0.3: (0.9, 0.2)}.items():
        for seed, accuracy in enumerate(accuracies):
            key = {"arm": "a", "rate": rate, "seed": seed}
            store.resume(path, key, lambda accuracy=accuracy: {"validation": accuracy, "test": 1 - accuracy}, recipe={})
    assert store.chosen(path, "a", ("rate",)) == (0.1,)
    assert store.chosen(path, "a", ("rate",), seed=0) == (0.3,)


def test_of_an_arms_tries_the_best_network_on_validation_is_taken():
    images, labels = torch.eye(3), torch.tensor([0, 1, 2])

    def network(rows, scale):
        layer = torch.nn.Linear(3, 3, bias=False)
        layer.weight.data = scale * torch.eye(3)[rows]
        return layer

    tries = [(0.1, network([0, 2, 1], 1.0)), (0.2, network([0, 1, 2], 1.0)), (0.3, network([0, 1, 2], 2.0)),
             (0.4, network([0, 1, 2], 2.0))]  # fmt: skip
    record, best = store.best_of(iter(tries), Split(images, labels))
    assert record == {"tried": pytest.approx([1 / 3, 1, 1, 1]), "chosen": 0.3, "validation": 1}
    assert best is tries[2][1]


def test_every_arm_of_notebook_20_under_attack_is_stored_with_all_its_tries():
    measured = [store.load(job.RESULTS)["records"] for job in (attacks, attacks_rates)]
    for job, records in zip((attacks, attacks_rates), measured, strict=True):
        keys = [
            {"arm": arm, "seed": seed, **each}
            for arm, tries in job.TRIES.items()
            for each in tries
            for seed in range(5)
        ]
        assert all(sum(key.items() <= record.items() for record in records) == 1 for key in keys)
        assert len(keys) == sum("arm" in record for record in records)
    numbers = {arm: len(attacks.TRIES[arm]) + len(attacks_rates.TRIES[arm]) for arm in attacks.TRIES}
    assert {arm: number for arm, number in numbers.items() if number != 5 + ("istilled" in arm)} == {}


@pytest.mark.parametrize(
    ("job", "key"),
    [
        (attacks, {"arm": "labels", "seed": 0, "learning_rate": 2e-3}),
        (attacks_rates, {"arm": "labels", "seed": 0, "learning_rate": 1e-3}),
        (privacy, {"arm": "labels, public", "seed": 0, "weight_decay": 0.01}),
        (subliminal, {"arm": "same start, ten outputs", "seed": 0, "learning_rate": 1e-3}),
    ],
    ids=lambda value: getattr(value, "__name__", "") or value["arm"],
)
def test_a_stored_try_of_notebook_20_can_be_measured_again(job, key):
    measure = getattr(job, "measure", attacks.measure)
    # another instruction set rounds differently: the five seeds of an arm lie within 4 points of each other
    assert measure(**key)["test"] == pytest.approx(store.find(store.load(job.RESULTS), key)["test"], abs=0.03)


def test_every_time_of_notebook_21_is_stored_for_every_round():
    stored = store.load(scaling.RESULTS)["records"]
    rounds = [key | {"round": round} for round in scaling.ROUNDS for _, key in scaling.wanted()]
    assert len(stored) == 1 + len(rounds)
    assert all(any(key.items() <= record.items() for record in stored) for key in rounds)
    assert store.find(store.load(scaling.RESULTS), {"part": "operations"})["operations"] == scaling.operations()


def test_the_ablation_of_the_capstone_is_whole_and_paired():
    records = store.load(capstone_ablation.RESULTS)["records"]
    keys = [{"arm": arm, "seed": seed} for arm in capstone_ablation.ARMS for seed in range(5)]
    assert len(keys) == len(records) == 30
    assert all(sum(key.items() <= record.items() for record in records) == 1 for key in keys)
    assert all(record.keys() >= {"validation", "test", "bytes", "final errors"} for record in records)
    # the file of the track is the whole recipe's, of the better seed
    (shipped,) = [each for each in store.load(baselines.RESULTS)["records"] if each.get("file") == "smallest.kdc"]
    (whole,) = [each for each in records if (each["arm"], each["seed"]) == ("whole", shipped["seed"])]
    assert {name: whole[name] for name in ("bytes", "test", "final errors")}.items() <= shipped.items()


def test_a_first_convolution_in_floats_computes_what_it_did_in_integers(tmp_path):
    onnx = pytest.importorskip("onnx")
    network = conv_net((4, 8))
    whole = chain_in_runtime.pipeline.int8_file(chain_in_runtime.pipeline.rounding(network.eval()), tmp_path / "whole")
    images, mixed = load_mnist().test.images[:100], tmp_path / "mixed"
    mixed.write_bytes(whole.read_bytes())
    chain_in_runtime.first_in_floats(mixed)
    # pixels are multiples of 1/255, so that rounding the input to uint8 lost nothing
    torch.testing.assert_close(session(mixed)(images), session(whole)(images), rtol=0, atol=1e-4)
    inputs = [node.input for node in onnx.load(mixed).graph.node if node.op_type == "Conv"]
    assert inputs[0][0] == "images"
    assert inputs[1][0] != "images"


def test_the_parts_of_the_smaller_lenets_add_up_to_their_files_within_the_bytes_allowed():
    records = store.load(lenet_smaller.RESULTS)["records"]
    keys = [{"arm": arm, "seed": seed} for arm in lenet_smaller.ARMS for seed in range(3)]
    assert all(sum(key.items() <= record.items() for record in records) == 1 for key in keys)
    for record in records:
        assert record["bytes"] <= lenet_smaller.MOST
        # whole words of four bytes, and up to two of them to end the stream
        assert 0 <= record["bytes"] - sum(record["bytes by part"].values()) <= 8
