"""A stored teacher against the live one, bit for bit; against hashes, float64 loops and file sizes worked out here."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdcourse.data import Split
from kdcourse.losses import kd_loss
from kdcourse.losses.sequences import top_k_kd_loss
from kdcourse.pruning import header_bytes
from kdcourse.teacher_store import TeacherStore, fill, fingerprint, plan, row_keys, top_k
from kdcourse.training import distill

CLASSES = 7


def network(seed=0, inputs=12, classes=CLASSES):
    torch.default_generator.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, classes))


def images(count=40):
    return torch.rand(count, 3, 4, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def live(teacher, batches):
    return torch.cat([teacher.eval()(batch) for batch in batches])


def made(folder, *, teacher=None, data=None, shard_rows=16, **kind):
    """A full store of 40 images, written in batches of 8."""
    teacher, data = teacher or network(), images() if data is None else data
    store = TeacherStore(folder, teacher=teacher, data=data, **kind)
    assert fill(store, teacher, data.split(8), shard_rows=shard_rows) == len(data) == len(store)
    return store


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# ---- stored equals live


@pytest.mark.parametrize("shard_rows", [1, 7, 16, 40, 1000])
@pytest.mark.parametrize("writers", [1, 3])
def test_a_store_read_in_any_order_is_the_teacher_bit_for_bit(tmp_path, shard_rows, writers):
    teacher, data = network(), images()
    batches = list(data.split(8))
    stores = [TeacherStore(tmp_path, teacher=teacher, data=data) for _ in range(writers)]
    for rank, store in enumerate(stores):
        fill(store, teacher, islice(batches, rank, None, writers), shard_rows=shard_rows)
    store, order = TeacherStore(tmp_path, teacher=teacher, data=data), torch.randperm(len(data))
    expected = live(teacher, batches)
    assert len(store) == len(data)
    assert len(names(tmp_path)) == sum(
        math.ceil(sum(map(len, batches[rank::writers])) / shard_rows) for rank in range(writers)
    )
    for rows in (order, order[:5], order[[3, 3]], order[[0]]):
        assert torch.equal(store(data[rows]), expected[rows])
    assert fill(store, teacher, batches) == 0


def test_the_teacher_is_run_in_eval_mode(tmp_path):
    teacher = network().train()
    store = made(tmp_path, teacher=teacher)
    assert teacher.training
    assert torch.equal(store(images()), live(teacher, images().split(8)))


@pytest.mark.parametrize("shape", [(CLASSES,), (5, CLASSES), (2, 5, CLASSES)])
def test_rows_have_any_number_of_positions(tmp_path, shape):
    tokens, logits = torch.arange(24).reshape(6, 4), torch.randn(6, *shape)
    logits[0, ..., 2] = -math.inf  # a class that cannot be
    store = TeacherStore(tmp_path, teacher="a", data="b")
    with store.writer(shard_rows=4) as write:
        write(tokens, logits)
        write(tokens[:, :3], logits + 1)  # other inputs, of another length
    assert torch.equal(store.read(tokens[:, :3]), logits + 1)
    assert torch.equal(store.read(tokens.flip(0)), logits.flip(0))
    assert len(store) == 12


def test_rows_of_several_lengths_come_into_files_of_their_own(tmp_path):
    store = TeacherStore(tmp_path, teacher="a", data="b")
    with store.writer(shard_rows=10) as write:
        for length in (2, 3, 2, 3):
            tokens = torch.randint(100, (4, length), generator=torch.Generator().manual_seed(len(names(tmp_path))))
            write(tokens + 1000 * length, torch.randn(4, length, CLASSES))
    assert len(names(tmp_path)) == 2
    assert store.read(tokens + 3000).shape == (4, 3, CLASSES)


def test_a_permuted_reading_order_gives_the_same_losses_and_a_cache_by_position_does_not(tmp_path):
    teacher, student, data = network(), network(1).eval(), images()
    store, order = made(tmp_path, teacher=teacher), torch.randperm(40)
    by_position = live(teacher, data.split(8))  # the classic: row i of the cache for the i-th image of the epoch

    def losses(targets, rows):
        return kd_loss(student(data[rows]), targets, temperature=3.0, reduction="none")

    straight = losses(store(data), torch.arange(40))
    assert torch.allclose(losses(store(data[order]), order), straight[order], atol=1e-6)
    assert not torch.allclose(losses(by_position, order), straight[order], atol=1e-2)


@pytest.mark.parametrize("as_loader", [False, True])
def test_distill_takes_a_store_for_a_teacher_and_ends_with_the_same_weights(tmp_path, as_loader):
    teacher, split = network(), Split(images(), torch.arange(40) % CLASSES)
    store = TeacherStore(tmp_path, teacher=teacher, data=split)

    def data():
        shuffled = DataLoader(TensorDataset(*split), batch_size=8, shuffle=True, generator=torch.Generator())
        return shuffled if as_loader else split

    fill(store, teacher, [split.images] if as_loader else split)
    students = network(1), network(1)
    for student, taught_by in zip(students, (teacher, store), strict=True):
        distill(student, taught_by, data(), epochs=2, progress=False)
    for one, other in zip(*(student.parameters() for student in students), strict=True):
        # a batch of 8 is not multiplied as one of 40 is
        assert torch.allclose(one, other, atol=1e-5) if as_loader else torch.equal(one, other)


def test_a_checkpoint_tells_two_stores_apart(tmp_path):
    split = Split(images(), torch.arange(40) % CLASSES)
    first, second = (made(tmp_path / str(seed), teacher=network(seed), data=split.images) for seed in (0, 1))
    options = {"epochs": 1, "progress": False, "checkpoint": tmp_path / "run.pt"}
    distill(network(2), first, split, **options)
    distill(network(2), first, split, **options)
    with pytest.raises(ValueError, match="another run, which differs in teacher"):
        distill(network(2), second, split, **options)


# ---- half precision and the most probable classes


@pytest.mark.parametrize(("dtype", "relative", "least"), [(torch.bfloat16, 2**-8, 0), (torch.float16, 2**-11, 2**-25)])
def test_half_precision_stays_within_its_bound(tmp_path, dtype, relative, least):
    logits = torch.randn(40, CLASSES) * 10.0 ** torch.linspace(-6, 3, 40).unsqueeze(1)
    store = TeacherStore(tmp_path, teacher="a", data="b", dtype=dtype)
    with store.writer() as write:
        write(images(), logits)
    found = store.read(images())
    assert found.dtype == torch.float32
    error = (found - logits).abs()
    assert (error <= relative * logits.abs() + least).all()
    assert (error > relative / 2.1 * logits.abs()).any()  # the bound is no larger than need be


@pytest.mark.parametrize("k", [1, 3, CLASSES])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_most_probable_classes_are_those_of_a_loop_in_float64(k, temperature):
    logits = torch.randn(6, 2, CLASSES, dtype=torch.float64) * 4
    top = top_k(logits, k=k, temperature=temperature)
    for place in np.ndindex(6, 2):
        weights = [math.exp(z / temperature) for z in logits[place].tolist()]
        order = sorted(range(CLASSES), key=lambda c: -weights[c])
        assert top.indices[place].tolist() == order[:k]
        expected = [math.log(weights[c] / sum(weights)) for c in order[:k]]
        assert top.log_probs[place].tolist() == pytest.approx(expected, abs=1e-12)
        rest = sum(weights[c] for c in order[k:]) / sum(weights)
        assert top.log_rest[place].item() == (pytest.approx(math.log(rest), abs=1e-12) if rest else -math.inf)


def test_a_small_rest_is_not_lost_to_rounding():
    top = top_k(torch.tensor([[30.0, 0.0, 0.0]]), k=1, temperature=1.0)
    assert top.log_rest.item() == pytest.approx(math.log(2) - 30, abs=1e-5)
    far = top_k(torch.tensor([[1e4 + 1, 1e4, -math.inf]]), k=2, temperature=1.0)
    assert far.log_probs[0, 0].item() == pytest.approx(-math.log1p(math.exp(-1)), abs=1e-6)
    assert far.log_rest.item() == -math.inf


def test_stored_classes_give_the_loss_of_live_ones(tmp_path):
    logits, student = torch.randn(40, CLASSES) * 3, torch.randn(40, CLASSES)
    order = torch.randperm(40)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        store = TeacherStore(tmp_path / str(dtype)[6:], teacher="a", data="b", k=3, temperature=2.0, dtype=dtype)
        with store.writer(shard_rows=16) as write:
            write(images(), logits)
        expected, found = top_k(logits, k=3, temperature=2.0), store.read(images()[order])
        assert found.indices.dtype == torch.int64
        assert torch.equal(found.indices, expected.indices[order])
        assert torch.equal(found.log_rest, expected.log_rest[order])
        if dtype == torch.float32:
            assert torch.equal(found.log_probs, expected.log_probs[order])
        unit = torch.finfo(dtype).eps / 2
        bound = 2 * unit * expected.log_probs.abs().amax(dim=-1, keepdim=True) + 1e-6
        assert ((found.log_probs - expected.log_probs[order]).abs() <= bound[order]).all()
        mass = found.log_probs.exp().sum(dim=-1) + found.log_rest.exp()
        assert (mass - 1).abs().max() < 1e-6  # also after rounding, so that the loss finds the right rest
        soft = top_k_kd_loss(student[order], found.log_probs, found.indices, temperature=store.temperature)
        right = top_k_kd_loss(student, expected.log_probs, expected.indices, temperature=2.0)
        assert soft.item() == pytest.approx(right.item(), rel=1e-6 if dtype == torch.float32 else 4 * unit)


# ---- keys


def test_a_key_is_sha256_of_type_shape_and_bytes():
    data = images(2)
    by_hand = [
        hashlib.sha256(b"0 torch.float32 (3, 4)" + np.asarray(row, "<f4").tobytes()).digest()[:16]
        for row in data.tolist()
    ]
    assert [key.tobytes() for key in row_keys(data)] == by_hand


def test_each_change_of_an_input_changes_its_key():
    data = images(1)
    changed = [data.double(), data.reshape(1, 4, 3), data.flatten(1), (data, data), {"pixels": data}]
    for place in range(12):
        other = data.clone()
        other.view(-1)[place] = torch.nextafter(other.view(-1)[place], torch.tensor(2.0))
        changed.append(other)
    keys = [row_keys(each)[0].tobytes() for each in (data, *changed)]
    assert len(set(keys)) == len(keys)
    assert row_keys((data,))[0] == row_keys(data)[0]  # model(*[x]) is model(x)
    assert row_keys({"a": data, "b": data + 1}) == row_keys({"b": data + 1, "a": data})
    strided = torch.stack([data, data], dim=-1)[..., 0]
    assert row_keys(strided) == row_keys(data)


def test_several_inputs_are_found_as_the_network_is_called(tmp_path):
    ids, mask = torch.arange(12).reshape(4, 3), torch.ones(4, 3, dtype=torch.bool)
    store = TeacherStore(tmp_path, teacher="a", data="b")
    with store.writer() as write:
        write({"ids": ids, "mask": mask}, torch.eye(4))
    assert torch.equal(store(mask=mask, ids=ids), torch.eye(4))
    with pytest.raises(ValueError, match="1 of 4 inputs"):
        store(ids=ids, mask=mask ^ (ids == 5))


def test_an_input_changed_by_augmentation_is_refused_and_not_given_anothers_logits(tmp_path):
    split = Split(images(), torch.arange(40) % CLASSES)
    store = made(tmp_path)
    changed = split.images.clone()
    changed[[3, 8, 9]] = changed[[3, 8, 9]].flip(-1)
    assert store.missing(changed).nonzero().flatten().tolist() == [3, 8, 9]
    with pytest.raises(ValueError, match=r"3 of 40 inputs .* 40 rows of .*first at row 3.*augmentation"):
        store(changed)
    with pytest.raises(ValueError, match="augmentation"):
        distill(network(1), store, split, epochs=1, progress=False, augment=lambda batch: batch.flip(-1))


# ---- a store of something else


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("teacher", {"teacher": network(1)}),
        ("data", {"data": images(41)}),
        ("temperature", {"k": 3, "temperature": 4.0}),
        ("k", {"k": 2, "temperature": 2.0}),
        ("dtype", {"dtype": torch.bfloat16}),
    ],
)
def test_a_store_of_something_else_is_refused_by_name(tmp_path, name, other):
    kind = {"k": 3, "temperature": 2.0} if "k" in other else {}
    made(tmp_path, **kind)
    asked = {"teacher": network(), "data": images(), **kind, **other}
    with pytest.raises(ValueError, match=rf"teacher-\w+\.safetensors is of another {name}: .* there, .* asked for"):
        TeacherStore(tmp_path, **asked)


def test_another_network_cannot_fill_a_store(tmp_path):
    store = TeacherStore(tmp_path, teacher=network(), data="b")
    with pytest.raises(ValueError, match=r"store of Sequential \w{16}, and this is Sequential \w{16}"):
        fill(store, network(1), images().split(8))
    assert fill(TeacherStore(tmp_path, teacher="by name", data="b"), network(1), images().split(8)) == 40


def test_a_fingerprint_is_of_parts_parameters_and_buffers():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU())
    before = fingerprint(model)
    assert fingerprint(model.train()) == fingerprint(model.requires_grad_(False)) == before
    model(torch.randn(5, 3))
    seen = fingerprint(model)
    model[2] = nn.GELU()
    other = fingerprint(model)
    assert len({before, seen, other, fingerprint(model.double())}) == 4


# ---- damage


def test_any_mutated_byte_of_a_file_is_found_and_the_file_named(tmp_path):
    kind = {"teacher": "a", "data": "b", "k": 2, "temperature": 2.0, "dtype": torch.bfloat16}
    store, data = TeacherStore(tmp_path, **kind), images(3)
    with store.writer() as write:
        write(data, torch.randn(3, CLASSES))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for place in range(0, len(content), 2):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(ValueError, match=path.stem):
            TeacherStore(tmp_path, **kind).read(data)
    path.write_bytes(content)
    assert TeacherStore(tmp_path, **kind).missing(data).sum() == 0


def test_a_row_exchanged_with_another_is_found(tmp_path):
    store = made(tmp_path, shard_rows=40)
    (path,) = tmp_path.iterdir()
    content, size = path.read_bytes(), CLASSES * 4
    at = content.index(store(images()[:1]).numpy().tobytes())
    path.write_bytes(
        content[:at] + content[at + size : at + 2 * size] + content[at : at + size] + content[at + 2 * size :]
    )
    again = TeacherStore(tmp_path, teacher=network(), data=images())
    with pytest.raises(ValueError, match=r"was altered: row 0 is not what was written \(2 of 5 rows read\)"):
        again(images()[:5])
    assert again(images()[2:]).shape == (38, CLASSES)  # the others are good
    altered, header = path.read_bytes(), header_bytes(path)  # the checksums of both rows, too
    at = header + json.loads(altered[8:header])["checks"]["data_offsets"][0]
    path.write_bytes(altered[:at] + altered[at + 4 : at + 8] + altered[at : at + 4] + altered[at + 8 :])
    with pytest.raises(ValueError, match="not those that its name was made of"):
        TeacherStore(tmp_path, teacher=network(), data=images())


def test_a_truncated_or_renamed_file_is_named(tmp_path):
    made(tmp_path)
    path = sorted(tmp_path.iterdir())[1]
    content = path.read_bytes()
    for length in (0, 5, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{path.name} is truncated, altered"):
            TeacherStore(tmp_path, teacher=network(), data=images())
    path.with_name("teacher-0000.safetensors").write_bytes(content)
    path.unlink()
    with pytest.raises(ValueError, match="teacher-0000.safetensors is truncated, altered"):
        TeacherStore(tmp_path, teacher=network(), data=images())


def test_rows_of_a_deleted_file_are_counted_and_written_again_as_they_were(tmp_path):
    made(tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    content = path.read_bytes()
    path.unlink()
    store = TeacherStore(tmp_path, teacher=network(), data=images())
    lost = int(store.missing(images()).sum())
    assert lost == 40 - len(store) > 0
    with pytest.raises(ValueError, match=rf"{lost} of 40 inputs"):
        store(images())
    teacher, seen = network(), []
    teacher.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    batches = images().split(8)
    of_those = [batch for batch in batches if store.missing(batch).any()]
    assert fill(store, teacher, batches, shard_rows=16) == lost
    assert len(seen) == len(of_those) < 5
    assert all(torch.equal(one, other) for one, other in zip(seen, of_those, strict=True))
    assert path.read_bytes() == content


# ---- several processes, and a kill


def test_a_fault_in_the_middle_of_a_file_loses_that_file_only(tmp_path, monkeypatch):
    whole = made(tmp_path / "whole", shard_rows=12).folder  # files end in the middle of a batch
    write, written = Path.write_bytes, []

    def failing(path, content):
        written.append(path)
        write(path, content[: len(content) // 2] if len(written) == 2 else content)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "cut", shard_rows=12)
    monkeypatch.undo()
    store = TeacherStore(tmp_path / "cut", teacher=network(), data=images())
    assert len(store) == 12
    assert fill(store, network(), images().split(8), shard_rows=12) == 28
    assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }


@pytest.mark.skipif(os.name == "nt", reason="a kill that cannot be caught")
def test_a_killed_process_leaves_whole_files_and_another_beside_it_is_not_disturbed(tmp_path):
    program = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]!r}
from test_teacher_store import TeacherStore, fill, images, network
from kdcourse._base import files
def kill(temporary):
    if len(list(temporary.parent.glob("teacher-*"))) >= 2:
        temporary.write_bytes(temporary.read_bytes()[:300])
        os.kill(os.getpid(), signal.SIGKILL)
files._flush = kill
fill(TeacherStore(sys.argv[1], teacher=network(), data=images()), network(), images()[:24].split(8), shard_rows=8)
"""
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    mine = TeacherStore(tmp_path, teacher=network(), data=images())
    assert killed.wait(timeout=120) == -signal.SIGKILL
    assert len(mine) == 0
    fill(mine, network(), iter(images()[24:].split(8)), shard_rows=8)
    assert len(mine) == 16 + 16
    assert [name for name in names(tmp_path) if not name.startswith("teacher-")] != []  # half a file, never read
    assert fill(mine, network(), images().split(8), shard_rows=8) == 8
    assert all(name.startswith("teacher-") for name in names(tmp_path))
    assert torch.equal(mine(images()), live(network(), images().split(8)))


def test_threads_that_write_the_same_rows_end_with_one_of_each(tmp_path):
    teacher = network().eval()

    def work():
        fill(TeacherStore(tmp_path, teacher="a", data="b"), teacher, images().split(8), shard_rows=8)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = TeacherStore(tmp_path, teacher="a", data="b")
    assert (len(store), len(names(tmp_path))) == (40, 5)


def test_what_an_error_interrupts_is_not_written(tmp_path):
    store = TeacherStore(tmp_path, teacher="a", data="b")

    def work():
        with store.writer(shard_rows=8) as write:
            write(images(12), torch.zeros(12, CLASSES))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    store.refresh()
    assert len(store) == 8


# ---- bad input, and the plan


@pytest.mark.parametrize(
    ("logits", "sentence"),
    [
        (torch.full((2, 3), math.nan), "NaN or infinity"),
        (torch.tensor([[0.0, math.inf], [0.0, 0.0]]), "NaN or infinity"),
        (torch.zeros(3, 4), r"logits of shape \(3, 4\) for 2 inputs"),
        (torch.zeros(2, 1), "single class"),
        (torch.full((2, 3), 7e4), "as large as 7e.04 is infinite in torch.float16"),
        (torch.full((2, 3), -7e4), "as large as 7e.04 is infinite in torch.float16"),
    ],
)
def test_logits_that_are_none_are_refused(tmp_path, logits, sentence):
    store = TeacherStore(tmp_path, teacher="a", data="b", dtype=torch.float16)
    with pytest.raises(ValueError, match=sentence), store.writer() as write:
        write(torch.zeros(2, 5), logits)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ({"k": 3}, "go together"),
        ({"temperature": 2.0}, "go together"),
        ({"k": 0, "temperature": 2.0}, "k must be an integer >= 1"),
        ({"k": 3, "temperature": 0.0}, "temperature must be a finite number > 0"),
        ({"dtype": torch.float64}, "dtype must be one of"),
    ],
)
def test_kinds_that_are_none_are_refused(tmp_path, kind, sentence):
    with pytest.raises(ValueError, match=sentence):
        TeacherStore(tmp_path, teacher="a", data="b", **kind)


def test_what_cannot_be_told_from_others_is_refused(tmp_path):
    loader = DataLoader(TensorDataset(images()), batch_size=8)
    with pytest.raises(TypeError, match="data must be a Split, a tensor or a name, got DataLoader"):
        TeacherStore(tmp_path, teacher="a", data=loader)
    with pytest.raises(TypeError, match="the teacher must be a network .*got function"):
        TeacherStore(tmp_path, teacher=live, data="b")
    made(tmp_path / "by_fingerprint")
    assert len(TeacherStore(tmp_path / "by_fingerprint", teacher=fingerprint(network()), data=images())) == 40


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_inputs_and_logits_of_any_dtype_are_stored(tmp_path, dtype):
    inputs = torch.arange(40).reshape(40, 1).to(dtype) if dtype != torch.bool else torch.eye(40, dtype=dtype)
    logits = torch.randn(40, 2, dtype=dtype if dtype.is_floating_point else torch.float32, requires_grad=True)
    store = TeacherStore(tmp_path, teacher="a", data="b")
    with store.writer() as write:
        write(inputs, logits)
    assert torch.equal(store(inputs), logits.detach().float())
    assert not store(inputs).requires_grad


def test_more_classes_than_there_are_and_inputs_that_are_no_tensors_are_refused(tmp_path):
    with pytest.raises(ValueError, match="k must be at most the number of classes, 3, got 4"):
        top_k(torch.zeros(2, 3), k=4, temperature=1.0)
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"NaN or infinity.*first at index \(0, 1\)"):
            top_k(torch.tensor([[0.0, value, 1.0]]), k=2, temperature=1.0)
    with pytest.raises(ValueError, match="-inf for every class"):
        top_k(torch.full((1, 3), -math.inf), k=2, temperature=1.0)
    with pytest.raises(ValueError, match="temperature must be"):
        top_k(torch.zeros(2, 3), k=2, temperature=0.0)
    with pytest.raises(TypeError, match="input mask is a NoneType"):
        row_keys({"ids": torch.zeros(2, 3), "mask": None})
    for inputs in (torch.zeros(0, 3), (torch.zeros(2, 3), torch.zeros(3, 3)), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="of one length, at least 1"):
            row_keys(inputs)
    store = TeacherStore(tmp_path, teacher="a", data="b")
    with pytest.raises(ValueError, match="shard_rows must be"), store.writer(shard_rows=0):
        pass


def test_a_store_of_the_most_probable_classes_has_no_logits_to_give(tmp_path):
    store = made(tmp_path, k=3, temperature=2.0)
    with pytest.raises(TypeError, match=r"keeps 3 classes at temperature 2\.0, not all logits.*top_k_kd_loss"):
        store(images())


@pytest.mark.parametrize("classes", [7, 128, 129, 33_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [None, 2])
def test_the_plan_is_what_the_files_take(tmp_path, classes, dtype, k):
    kind = {} if k is None else {"k": k, "temperature": 1.0}
    store = TeacherStore(tmp_path, teacher="a", data="b", dtype=dtype, **kind)
    with store.writer(shard_rows=4) as write:
        write(torch.arange(10).reshape(10, 1), torch.randn(10, 3, classes))
    found = plan(29, classes=classes, k=k, dtype=dtype, row_tokens=3, shard_rows=4, bytes_per_second=100)
    paths = list(tmp_path.iterdir())
    headers = [header_bytes(path) for path in paths]
    assert max(headers) < 1000
    assert found.bytes == sum(path.stat().st_size for path in paths) - sum(headers) == 10 * found.bytes_per_row
    assert found.shards == len(paths) == 3
    assert found.hours == found.bytes / 100 / 3600


def test_plans_worked_by_hand():
    full = plan(10**12, classes=152_000, dtype=torch.bfloat16, row_tokens=1000, bytes_per_second=1e9)
    assert full.bytes == 10**12 * 304_000 + 10**9 * 20
    top = plan(10**12, classes=152_000, k=64, dtype=torch.float16, row_tokens=1000, bytes_per_second=1e9)
    assert top.bytes == 10**12 * (64 * (2 + 4) + 4) + 10**9 * 20
    assert plan(5, classes=10, bytes_per_second=1).bytes_per_row == 60
    sizes = {128: 1, 129: 2, 2**15: 2, 2**15 + 1: 4}  # bytes of an index
    for classes, index in sizes.items():
        assert plan(5, classes=classes, k=3, bytes_per_second=1).bytes_per_row == 20 + 3 * (4 + index) + 4
    for wrong in ({"tokens": 0}, {"classes": 1}, {"k": 11}, {"k": 0}, {"row_tokens": 0}, {"bytes_per_second": 0}):
        with pytest.raises(ValueError, match="must be"):
            plan(**{"tokens": 5, "classes": 10, "bytes_per_second": 1.0, **wrong})
    with pytest.raises(ValueError, match="dtype"):
        plan(5, classes=10, dtype=torch.float64, bytes_per_second=1)
