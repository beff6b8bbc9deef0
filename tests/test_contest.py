"""The judge of the capstone: hostile files are refused or scored in a sentence; what is scored was measured."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import onnxruntime
import pytest
import torch
from contesting import (
    REFERENCE,
    array,
    elsewhere,
    endless,
    few,
    huge,
    linear,
    model,
    nearest,
    renamed,
    tail,
    with_tail,
)  # fmt: skip
from onnx import TensorProto, helper
from scipy.stats import binom

from kdcourse.contest import Digits, course, inside, judge, judging, keyed_digits, sets, trying
from kdcourse.contest.counts import Count, difference, median_interval
from kdcourse.contest.judging import Entry, Scores
from kdcourse.contest.receiving import MOST_BYTES, Refused, received
from kdcourse.contest.tracks import TRACKS, on_front, places, twins
from kdcourse.contest.trying import Limits
from kdcourse.data import Split, load_mnist
from kdcourse.export import run
from kdcourse.metrics import Interval, accuracy_interval
from kdcourse.models import conv_net, load_model, mlp
from kdcourse.quantization import (
    SharedWeight,
    fold_batchnorm,
    load_shared,
    read_coded,
    share_model,
    shared_weights,
    write_coded,
)
from kdcourse.quantization._decoding import decode_and_measure
from kdcourse.quantization.coding import _header

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory and calls are Linux's")
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes with names, and links are for administrators")


def here(content, images=None):
    """What `inside` finds, without a process of its own; the sentence where it refuses."""
    images = few().public.images.numpy() if images is None else images
    try:
        return inside.tried(content, REFERENCE.read_bytes(), images, onnxruntime)
    except inside.Refused as error:
        return str(error)


def judged(tmp_path, content, limits=None, on=None):
    (tmp_path / "entry.onnx").write_bytes(content)
    return judge(tmp_path / "entry.onnx", on=on or few(), limits=limits)


# --- what is measured -------------------------------------------------------------------------------------------------


def test_an_onnx_file_scores_what_it_predicts():
    entry = judge(REFERENCE, on=few())
    split = few().public
    logits = run(REFERENCE, split.images)
    assert entry.refused == ""
    assert entry.scores.public == Count(int((logits.argmax(1) == split.labels).sum()), 40)
    torch.testing.assert_close(entry.scores.logits[:40], logits)
    assert 0.5 < entry.scores.ratio.mean < 2  # it is the reference itself
    assert (entry.size, entry.kind, entry.notes) == (REFERENCE.stat().st_size, "ONNX", [])


def test_a_coded_file_scores_what_its_network_predicts():
    path = REFERENCE.parent.parent / "lenet_300_100.kdc"
    entry, network = judge(path, on=few()), mlp((300, 100))
    load_shared(network, read_coded(path))
    with torch.no_grad():
        torch.testing.assert_close(entry.scores.logits[:40], network(few().public.images), atol=1e-4, rtol=1e-4)
    assert entry.kind == "coded"


def test_a_coded_convolution_is_the_networks(tmp_path):
    network = fold_batchnorm(load_model(REFERENCE.parent.parent / "teacher.safetensors"))
    coded = share_model(network, bits=5, bias_bits=5)
    write_coded(tmp_path / "net.kdc", shared_weights(coded))
    _, logits = here((tmp_path / "net.kdc").read_bytes())
    with torch.no_grad():
        np.testing.assert_allclose(logits, coded(few().public.images).numpy(), atol=1e-4, rtol=1e-3)


def coded(tmp_path, *tensors):
    """The bytes of a coded file, and what they are spent on."""
    shared = {f"{number}.weight": SharedWeight(codebook, indices) for number, (codebook, indices) in enumerate(tensors)}
    write_coded(tmp_path / "net.kdc", shared)
    content = (tmp_path / "net.kdc").read_bytes()
    _, spent = decode_and_measure(content)
    assert sum(spent.values()) == len(content)
    return shared, spent


def test_the_bytes_of_a_coded_file_are_positions_and_values(tmp_path):
    """Which weights are kept costs the same whatever they are."""
    torch.manual_seed(0)
    kept = (torch.rand(100, 100) < 0.1).to(torch.uint8)
    few_values = torch.tensor([0.0, 0.5])
    many_values = torch.cat([torch.zeros(1), torch.linspace(-1, 1, 32).half().float()])
    shared, one = coded(tmp_path, (few_values, kept))
    _, many = coded(tmp_path, (many_values, kept * torch.randint(1, 33, kept.shape).to(torch.uint8)))
    assert one["values"] <= 1
    assert abs(one["positions"] - many["positions"]) <= 2
    bits = kept.sum().item() * np.log2(32)  # drawn uniformly: five bits each
    assert bits / 8 <= many["values"] <= 1.15 * bits / 8
    assert one["header and codebooks"] == len(_header(shared)) + 12
    _, vector = coded(tmp_path, (few_values, kept[0]))
    assert (vector["positions"], vector["values"] > 0) == (0, True)


def test_the_bytes_of_an_onnx_file_are_weights_and_a_graph(tmp_path):
    entry = judged(tmp_path, with_tail(tail("Add", ["sums", "more"]), constants=[array("more", np.zeros(10, "f"))]))
    assert 7850 * 4 <= entry.scores.spent["weights and constants"] <= 7850 * 4 + 60
    assert sum(entry.scores.spent.values()) == entry.size


@pytest.mark.parametrize("told", [None, [], {"a": 9}, {"a": 11, "b": -1}, {"a": True, "b": 9}, {"a": "10"},
                                  {str(number): 2 for number in range(5)}])  # fmt: skip
def test_parts_that_are_not_the_files_are_not_shown(told):
    assert trying._spent(told, 10) == {}
    assert trying._spent({"a\nb": 4, "c": 6}, 10) == {"a b": 4, "c": 6}


@pytest.mark.parametrize(("count", "side", "size"), [(1, 28, 3), (3, 7, 5), (2, 9, 1)])
def test_a_convolution_in_numpy_is_pytorchs(count, side, size):
    values, weight, bias = torch.randn(count, 2, side, side), torch.randn(4, 2, size, size), torch.randn(4)
    expected = torch.nn.functional.conv2d(values, weight, bias, stride=2, padding=size // 2)
    found = inside.convolution(values.numpy(), weight.numpy(), bias.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("network", "why"),
    [(mlp((5,)), ""), (torch.nn.Sequential(torch.nn.Linear(784, 9)), "ends in outputs"),
     (torch.nn.Sequential(torch.nn.Linear(700, 10)), "behind outputs"),
     (conv_net((2,)), "")],
)  # fmt: skip
def test_a_coded_file_of_another_network_is_refused(network, why, tmp_path):
    write_coded(tmp_path / "net.kdc", shared_weights(share_model(network, bits=2, bias_bits=2)))
    found = here((tmp_path / "net.kdc").read_bytes())
    assert why in found if why else isinstance(found, tuple)


def test_robust_is_what_is_right_in_every_version(tmp_path):
    split = few().public
    flipped = split.images.flip(-1)
    entry = judge(REFERENCE, on=Digits(split, None, "", {"clean": split.images, "mirrored": flipped}))
    right = [run(REFERENCE, images).argmax(1) == split.labels for images in (split.images, flipped)]
    assert entry.scores.robust == Count(int((right[0] & right[1]).sum()), 40)
    assert [count.right for count in entry.scores.versions.values()] == [int(each.sum()) for each in right]
    assert entry.scores.robust.right < entry.scores.public.right


@pytest.mark.parametrize("total", [40, 500])
def test_the_interval_covers_at_any_accuracy_and_wilsons_does_not(total):
    accuracies = np.linspace(0.9, 0.9999, 200)
    chances = binom.pmf(np.arange(total + 1)[:, None], total, accuracies)

    def covered(interval):
        low, high = (np.array([interval(right)[end] for right in range(total + 1)])[:, None] for end in (1, 2))
        above = low <= accuracies
        return (above * chances).sum(axis=0), (above * (accuracies <= high) * chances).sum(axis=0)

    below, both = covered(lambda right: Count(right, total).interval)
    assert below.min() >= 0.975
    assert both.min() >= 0.95
    assert covered(lambda right: accuracy_interval(right, total))[1].min() < 0.95


@pytest.mark.parametrize("count", [6, 20, 21, 300])
def test_the_medians_interval_covers(count):
    found = median_interval(list(range(count)))
    rank = int(found.low) + 1  # the values are their own ranks
    assert found.high == count - rank
    below = np.arange(count + 1)
    assert binom.pmf(below, count, 0.5)[(below >= rank) & (below <= count - rank)].sum() >= 0.95
    assert found.mean == (count - 1) / 2


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_a_differences_interval_is_newcombes(one, other, low, high):
    """His table II, method 10."""
    found = difference(Count(*one), Count(*other))
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert found.mean == one[0] / one[1] - other[0] / other[1]


@pytest.mark.parametrize("accuracy", [0.98, 0.95])
def test_a_difference_of_nothing_is_rarely_found(accuracy):
    right = np.arange(201)
    chances = binom.pmf(right, 200, accuracy)
    likely = [number for number in right if chances[number] > 1e-5]
    found = sum(chances[a] * chances[b] for a in likely for b in likely
                if difference(Count(int(a), 200), Count(int(b), 200)).low > 0)  # fmt: skip
    assert 0 < found < 0.035


def test_too_few_times_are_no_interval():
    with pytest.raises(Refused):
        median_interval([1.0] * 5)


# --- the images that decide -------------------------------------------------------------------------------------------


def test_a_key_makes_the_same_digits_again_and_another_key_others():
    split = load_mnist().test.take(torch.arange(0, 1000, 20))
    one, again, other = (
        keyed_digits(split, key) for key in ("a long enough key", "a long enough key", "another long key")
    )
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.labels, again.labels)
    assert not torch.equal(one.labels, other.labels)
    assert one.labels.bincount().tolist() == split.labels.bincount().tolist()
    gaps = (one.images[:, None] - split.images[None]).abs().flatten(2).sum(2)
    assert gaps.min() > 5  # none is one of the images it was made of
    assert one.images.min() >= 0
    assert torch.equal((one.images * 255).round() / 255, one.images)


def test_keyed_digits_are_those_of_their_numbers():
    """An image turned by hand: with all other numbers at zero it is scipy's rotation."""
    from scipy.ndimage import rotate

    image = load_mnist().test.images[0, 0].double().numpy()
    drawn = np.zeros(sets.DRAWN)
    np.testing.assert_allclose(sets._bent(image, drawn), image, atol=1e-12)
    drawn[0] = 1.0
    turned = rotate(image, np.degrees(0.2), reshape=False, order=1)
    assert min(np.abs(sets._bent(image, sign * drawn) - turned).max() for sign in (1, -1)) < 1e-6


def test_a_key_chooses_which_digits_are_taken():
    split = load_mnist().test
    few, all_of_them = (keyed_digits(split, "a long enough key", count=count) for count in (50, None))
    assert torch.equal(few.images, all_of_them.images[:50])
    assert not torch.equal(few.labels, keyed_digits(split, "another long key", count=50).labels)
    other = keyed_digits(split, "a long enough key", count=50, series="learned")
    assert not torch.equal(few.labels, other.labels)
    with pytest.raises(ValueError, match="from 1 to the 1000 digits"):
        keyed_digits(split, "a long enough key", count=1001)


FULL = Split(torch.zeros(3000, 1, 28, 28), torch.full((3000,), 7))
"""what `load_full_test` gives: black images, and labels that say where they come from"""


def test_the_sets_are_mnists_test_file_bent_by_the_key_where_it_is_there(tmp_path, monkeypatch):
    seeds, embedded = [], load_mnist()
    monkeypatch.setattr(sets, "worse", lambda split, seed=0: seeds.append(seed) or {"clean": split.images})
    monkeypatch.setattr(sets, "load_full_test", lambda root: FULL)
    without = sets.digits("a long enough key", None) if not os.environ.get("KDCOURSE_DATA") else None
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in sets.FULL_SHA256:
        (tmp_path / "MNIST" / "raw" / name).touch()
    found, plain = sets.digits("a long enough key", tmp_path), sets.digits(None, tmp_path)
    assert found.final.labels.tolist() == [7] * 1000
    monkeypatch.setenv("KDCOURSE_DATA", str(tmp_path))
    assert sets.digits().final is FULL
    assert sets.digits(full=False).final is None
    assert "MNIST's test file" in found.final_name
    assert plain.final is FULL
    assert plain.learned is None
    assert seeds[-4:-2] == [sets.seed_of("a long enough key"), 0]
    assert torch.equal(found.learned.images, keyed_digits(
        embedded.train, "a long enough key", count=1000, series="learned").images)  # fmt: skip
    if without:
        assert "embedded test digits" in without.final_name
        assert torch.equal(without.final.images, keyed_digits(embedded.test, "a long enough key").images)


def test_worse_versions_are_of_images_all_over_the_set(monkeypatch):
    split = Split(torch.arange(10_000).reshape(-1, 1, 1, 1), torch.arange(10_000))
    assert sets.spread(split, 500).labels.tolist() == list(range(0, 10_000, 20))
    assert sets.spread(split.take(torch.arange(1000)), 500).labels.tolist() == list(range(0, 1000, 2))
    assert sets.spread(split.take(torch.arange(500)), 500).labels.tolist() == list(range(500))


def test_noise_and_squares_and_attacks_follow_from_the_key():
    split = load_mnist().validation.take(torch.arange(3))
    seeds = [sets.seed_of(key) for key in (None, "a long enough key", "another long key")]
    assert seeds[0] == 0
    one, other, again = (sets.worse(split, seed) for seed in (seeds[1], seeds[2], seeds[1]))
    same = {name for name in one if torch.equal(one[name], other[name])}
    assert same == {"clean", "blur", "faded"}
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_digits_made_of_training_digits_are_scored_beside_the_final_ones(tmp_path):
    split = few().public
    on = few()._replace(final=split, final_name="x", learned=split.take(torch.arange(30)))
    scores = judge(REFERENCE, on=on).scores
    right = run(REFERENCE, split.images).argmax(1) == split.labels
    assert scores.final == Count(int(right.sum()), 40)
    assert scores.learned == Count(int(right[:30].sum()), 30)
    assert len(scores.versions) == 1


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="12 characters or more"):
        keyed_digits(load_mnist().test, "2026")


def test_the_fingerprint_tells_keys_apart():
    assert sets.fingerprint("a long enough key") != sets.fingerprint("a long enough kez")


def test_no_digits_are_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "worse", lambda split, seed: {"clean": split.images})
    monkeypatch.setattr("kdcourse.data._download", lambda *_: pytest.fail("downloads"))
    monkeypatch.setenv("KDCOURSE_DATA", str(tmp_path))
    assert sets.digits().final is None
    with pytest.raises(FileNotFoundError, match="full MNIST is not in"):
        sets.digits(folder=tmp_path)


def test_a_file_that_stores_the_public_images_wins_nothing_in_the_end(tmp_path):
    mnist = load_mnist()
    final = keyed_digits(mnist.test.take(torch.arange(0, 1000, 5)), "a long enough key")
    on = Digits(mnist.validation, final, "keyed", {"clean": final.images[::20]})
    scores = judged(tmp_path, nearest(mnist.validation), on=on).scores
    assert scores.public.right == scores.public.total
    assert scores.final.interval.high < 0.9
    assert scores.deciding == scores.final


# --- hostile files ----------------------------------------------------------------------------------------------------


def test_an_endless_loop_is_ended(tmp_path):
    begun = time.monotonic()
    assert "did not come to an end in time" in judged(tmp_path, endless(), Limits(seconds=3)).refused
    assert time.monotonic() - begun < 30  # three, and what a busy machine adds


@LINUX
def test_time_is_a_processors_so_that_a_busy_machine_refuses_nobody(tmp_path):
    assert trying._ended(-24) == trying._ended(None)
    code = trying.BOOT.replace("main(plan)", "enclose(plan)\nwhile True: pass").replace("import main", "import enclose")
    plan = {"package": str(trying.PACKAGE), "paths": [str(trying.PACKAGE.parent), *trying.libraries()],
            "memory": 2**28, "written": 100, "seconds": 1}  # fmt: skip
    result = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", code, json.dumps(plan)], capture_output=True)
    assert result.returncode == -24


@LINUX
@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand", "Tile"])
def test_ten_gigabytes_are_refused(kind, tmp_path):
    content = huge(kind)
    assert len(content) < 40_000
    assert "more than 1 GiB of memory" in judged(tmp_path, content).refused


@pytest.mark.parametrize("location", ["../../../../etc/passwd", "/etc/passwd", "weights.bin"])
@pytest.mark.parametrize("inside_if", [False, True])
def test_weights_in_another_file_are_refused(location, inside_if):
    assert here(elsewhere(location, inside_if=inside_if)) == "keeps weights in another file: a submission is one file"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (with_tail(tail("Identity"), gives=(1, 10)), None),
        (with_tail(tail("Slice", ["sums", "from", "to"]), gives=(1, 10),
                   constants=[array("from", np.array([0])), array("to", np.array([1]))]),
         r"an output of shape (1, 10) for 32 images, not (32, 10)"),
        (with_tail(tail("Cast", to=TensorProto.DOUBLE), kinds=(TensorProto.FLOAT, TensorProto.DOUBLE)), "type float64"),
        (with_tail(tail("Cast", to=TensorProto.INT64), kinds=(TensorProto.FLOAT, TensorProto.INT64)), "type int64"),
        (with_tail(tail("Log")), "NaN or infinity"),
        (with_tail(tail("Transpose", perm=[1, 0]), gives=(10, "N")), "an output of shape (10, 1) for 1 image,"),
        (with_tail(tail("Identity"), takes=[32, 1, 28, 28]),
         "it must take float32 (N, 1, 28, 28)"),
        (with_tail(tail("Add", ["sums", "noise"]), helper.make_node("RandomNormalLike", ["sums"], ["noise"])),
         "draws random numbers"),
        (with_tail(helper.make_node("Dropout", ["sums", "half", "true"], ["logits"]),
                   constants=[array("half", np.float32(0.5)), array("true", True)]),
         "other outputs for the same image each time"),
        (with_tail(tail("Best", domain="my.operators")), "'my.operators.Best'"),
        (with_tail(tail("EPContext", domain="com.microsoft")), "'com.microsoft.EPContext'"),
        (with_tail(tail("Identity"), functions=[helper.make_function(
            "own", "F", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 20)])]),
         "an operator of its own, 'F'"),
        (REFERENCE.read_bytes()[:20_000], "neither a whole ONNX file"),
        (b"a card: accuracy 100 %\n" * 50, "neither a whole ONNX file"),
        (b"KDC\x01" + b"0" * 100, "is damaged or truncated"),
        ((REFERENCE.parent.parent / "lenet_300_100.kdc").read_bytes()[:-7], "is damaged or truncated"),
    ],
    ids=["a true one", "shape lie", "float64", "int64", "NaN", "transposed", "batch of 32", "random", "dropout",
         "custom", "other file", "function", "truncated", "text", "coded text", "coded truncated"],
)  # fmt: skip
def test_what_does_not_give_logits_of_images_is_refused_in_a_sentence(content, why):
    found = here(content)
    assert isinstance(found, tuple) if why is None else why in found


def test_two_inputs_are_refused():
    nodes, constants = linear()
    content = model([*nodes, tail("Add", ["sums", "more"])], constants)
    made = __import__("onnx").load_model_from_string(content)
    made.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [10]))
    assert "2 inputs and 1 outputs" in here(made.SerializeToString())


def test_a_network_that_looks_at_its_batch_is_judged_alone():
    mean = helper.make_node("ReduceMean", ["sums", "first"], ["mean"], keepdims=1)
    found, logits = here(with_tail(mean, tail("Sub", ["sums", "mean"]), constants=[array("first", np.array([0]))]))
    assert np.abs(logits).max() == 0  # alone, nothing is left
    assert "depends on the others of its batch" in found["batch"]


def test_timed_are_images_of_all_sets(monkeypatch):
    """A network that recognises the public digits, and hurries on those alone, is not faster than it is."""
    timed = []
    monkeypatch.setattr(inside, "times", lambda network, reference, images: timed.append(images) or [])
    images = np.arange(3000, dtype=np.float32).repeat(784).reshape(3000, 1, 28, 28)
    here(with_tail(tail("Identity")), images)
    numbers = timed[0][:, 0, 0, 0]
    assert len(set(numbers)) == inside.TIMED
    assert (numbers < 500).mean() == pytest.approx(500 / 3000, abs=0.01)


def test_a_name_of_any_length_is_refused_in_a_sentence(tmp_path):
    weights = {"y" * 200_000: next(iter(shared_weights(share_model(mlp((4,)), bits=2, bias_bits=2)).values()))}
    write_coded(tmp_path / "long.kdc", weights)
    assert judge(tmp_path / "long.kdc", on=few()).refused.startswith("holds 'y")


def test_a_runtimes_own_message_is_one_plain_line(tmp_path):
    """The name of an operator is in the message; here it is a card with colours and lines of its own."""
    node = tail("Reshape", ["sums", "shape"], name="x\nentry.onnx\x1b[32m  100.00 % (100 to 100)\nplace 1\u202e")
    entry = judged(tmp_path, with_tail(node, constants=[array("shape", np.array([3, 7]))]))
    assert entry.scores is None
    assert entry.refused.startswith("cannot be run: ")
    assert entry.refused.isprintable()
    assert len(entry.refused) <= 260


@POSIX
@LINUX
def test_a_pipe_a_link_a_folder_and_a_huge_file_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "link.onnx").symlink_to(REFERENCE)
    (tmp_path / "folder.onnx").mkdir()
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(10 * 2**30)
    (tmp_path / "empty.onnx").touch()
    wanted = {"pipe": "a pipe or a device", "link": "is a link", "folder": "is a folder",
              "huge": "10,737,418,240 bytes", "empty": "is empty", "nothing": "cannot be read"}  # fmt: skip
    for name, why in wanted.items():
        assert why in judge(tmp_path / f"{name}.onnx", on=few()).refused


def test_the_most_that_is_read_is_read(tmp_path):
    (tmp_path / "a.onnx").write_bytes(bytes(MOST_BYTES))
    assert len(received(tmp_path / "a.onnx")) == MOST_BYTES
    (tmp_path / "a.onnx").write_bytes(bytes(MOST_BYTES + 1))
    with pytest.raises(Refused, match="is the most that is read"):
        received(tmp_path / "a.onnx")


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    path, measured = tmp_path / "entry.onnx", judging.measured
    path.write_bytes(with_tail(tail("Identity")))

    def meanwhile(*arguments):
        path.write_bytes(REFERENCE.read_bytes())
        return measured(*arguments)

    monkeypatch.setattr(judging, "measured", meanwhile)
    entry = judge(path, on=few())
    assert "changed while it was judged" in entry.refused
    assert entry.scores is None


# --- the process ------------------------------------------------------------------------------------------------------

PROBE = """
from kdcourse.contest.inside import enclose, imported
found = {"torch": "torch" in sys.modules}
imported(b"KDC\\x01"), imported(b"")
found["torch"] |= "torch" in sys.modules
found["missing"] = enclose(plan)
def tried(name, call):
    try:
        call()
        found[name] = "works"
    except BaseException as error:
        found[name] = type(error).__name__
import os, socket
tried("socket", socket.socket)
tried("fork", os.fork)
tried("memory", lambda: bytearray(plan["memory"]))
print(json.dumps(found))
"""


@LINUX
def test_the_process_has_no_pytorch_no_network_no_children_and_little_memory(tmp_path):
    program = trying.BOOT.replace("from kdcourse.contest.inside import main\nmain(plan)\n", PROBE)
    plan = {"package": str(trying.PACKAGE), "paths": [str(trying.PACKAGE.parent), *trying.libraries()],
            "memory": 2**28, "written": 100, "seconds": 20}  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program, json.dumps(plan)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"torch": False, "missing": [], "socket": "PermissionError",
                                         "fork": "PermissionError", "memory": "MemoryError"}  # fmt: skip


def test_what_is_not_limited_here_is_said(tmp_path):
    (tmp_path / "logits.npy").touch()
    np.save(tmp_path / "logits.npy", np.zeros((2, 10), np.float32))
    found = trying._read(tmp_path, {"missing": ["memory", "calls"], "times": [[1, 2]]}, 2, 10)
    assert len(found.notes) == 2
    assert all("this system" in note for note in found.notes)


def test_a_broken_installation_is_not_the_submissions_fault(tmp_path, monkeypatch):
    program = trying.BOOT.replace("main(plan)", "sys.modules['onnxruntime'] = None\nmain(plan)")
    monkeypatch.setattr(trying, "BOOT", program)
    with pytest.raises(ImportError, match="does not start here"):
        judged(tmp_path, with_tail(tail("Identity")))


@pytest.mark.parametrize("told", [b"", b"[]", b"\xff", b'{"a": "' + b"x" * 70_000 + b'"}'])
def test_a_process_that_tells_nonsense_scores_nothing(told, tmp_path):
    (tmp_path / "told.json").write_bytes(told)
    assert trying._told(tmp_path / "told.json") is None


# --- places -----------------------------------------------------------------------------------------------------------


def entry(name, size=1000, right=990, robust=50, ratio=1.0, logits=0.0):
    scores = Scores(Count(right, 1000), None, {}, Count(robust, 100), Interval(1, 1, 1), Interval(1, 1, ratio),
                    torch.full((2, 10), logits))  # fmt: skip
    return Entry(name, "ONNX", size, name, scores, "", [])


REFUSED = Entry("r", "ONNX", 5, "x", None, "is empty", [])


def test_places_go_by_the_end_that_is_worse_and_ties_are_ties():
    several = [entry("a", 900), entry("b", 500), entry("c", 500), REFUSED, entry("d", 100, right=979), entry("e", 2000)]
    found = places(TRACKS["smallest"], several)
    assert [place.place for place in found] == [3, 1, 1, None, None, 4]
    assert [place.tied for place in found] == [False, True, True, False, False, False]


@pytest.mark.parametrize("track", ["accurate", "robust"])
def test_percentages_that_are_shown_with_the_same_digits_share_a_place(track):
    counts = Count(489, 500), Count(973, 1000), Count(974, 1000)  # 96.098 %, 96.096 %, 96.21 %
    assert counts[0].interval.low != counts[1].interval.low
    several = [entry(str(count)) for count in counts]
    several = [each._replace(scores=each.scores._replace(public=count, robust=count))
               for each, count in zip(several, counts, strict=True)]  # fmt: skip
    found = places(TRACKS[track], several)
    assert [(place.place, place.tied) for place in found] == [(2, True), (2, True), (1, False)]
    assert TRACKS[track].shown(found[0].value).startswith("at least 96.10 %")


def test_ratios_that_are_shown_with_the_same_digits_share_a_place():
    found = places(TRACKS["fastest"], [entry(str(ratio), ratio=ratio) for ratio in (1.06, 1.14, 1.16)])
    assert [(place.place, place.tied) for place in found] == [(1, True), (1, True), (3, False)]
    assert TRACKS["fastest"].shown(found[0].value) == "at most 1.1 × the reference"


def test_what_so_few_images_leave_unsure_is_said():
    track = TRACKS["smallest"]
    assert track.told(entry("a", right=989), 1000) == "1,000 bytes"
    assert track.told(entry("a", right=980), 1000) == "1,000 bytes (unsure: 98 % lies in its interval)"
    assert track.why_not(entry("a", right=979)) == "it is right on less than 98 %"


@pytest.mark.parametrize(("track", "public", "keyed"), [("smallest", 98, 96), ("fastest", 97, 93)])
def test_keyed_digits_are_harder_and_have_a_bar_of_their_own(track, public, keyed):
    for bar, learned in ((public, None), (keyed, Count(970, 1000))):
        for right, reached in ((10 * bar, True), (10 * bar - 1, False)):
            one = entry("a", right=right)
            one = one._replace(scores=one.scores._replace(learned=learned))
            assert (not TRACKS[track].why_not(one)) == reached
            assert f"{bar} %" in (TRACKS[track].told(one, 1.0) if reached else TRACKS[track].why_not(one))
    assert TRACKS[track].bar(False) == TRACKS["robust"].bar(True) == ""


@pytest.mark.parametrize("track", ["smallest", "fastest"])
def test_the_courses_own_file_is_in_its_track_behind_a_key(track):
    path = next(path for path in course.files() if path.stem == track)
    split = keyed_digits(load_mnist().test, "a key for this test alone", count=1000)
    on = Digits(few().public, split, "keyed", {"clean": split.images}, split)
    assert TRACKS[track].why_not(judge(path, on=on)) == ""


@pytest.mark.parametrize(
    ("track", "wanted"), [("accurate", [2, 1, None]), ("fastest", [1, 3, 2]), ("robust", [2, 2, 1])]
)
def test_each_track_ranks_by_its_own_measure(track, wanted):
    several = [entry("a", 8191, 985, ratio=0.5), entry("b", 100, 990, ratio=2.0), entry("c", 8192, 999, 60, ratio=0.7)]
    assert [place.place for place in places(TRACKS[track], several)] == wanted


def test_the_same_bytes_share_a_place_although_each_was_timed_for_itself():
    several = [entry("a", ratio=2.6), entry("b", ratio=1.0), entry("c", ratio=2.5)._replace(digest="a")]
    found = places(TRACKS["fastest"], several)
    assert [(place.place, place.value, place.tied) for place in found] == [
        (2, 2.5, True),
        (1, 1.0, False),
        (2, 2.5, True),
    ]
    found = places(TRACKS["fastest"], [*several, entry("d", right=900, ratio=0.1)._replace(digest="a")])
    assert found[3] == (None, None, False)
    assert found[0].value == 2.5, "what takes no part does not count"


def test_the_front_and_the_twins():
    several = [entry("a", 900, 990, logits=1.0), entry("b", 500, 980, logits=2.0), entry("c", 950, 985, logits=1.00001)]
    assert {each.name for each in on_front(several)} == {"a", "b"}
    assert twins([*several, several[0]._replace(name="d"), REFUSED]) == {
        "c": "other bytes, and the outputs of a on every public digit", "d": "the same bytes as a"}  # fmt: skip


def test_the_same_network_in_another_container_is_found(tmp_path):
    one = judged(tmp_path, with_tail(tail("Identity")))
    other = judged(tmp_path, renamed(with_tail(tail("Identity"))))._replace(name="other")
    assert one.digest != other.digest
    assert "the outputs of entry.onnx" in twins([one, other])["other"]


def test_a_split_is_what_decides():
    split = Split(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    assert Digits(split, None, "", {}).deciding is split
    assert Digits(split, split.take(torch.tensor([0])), "", {}).deciding is not split
