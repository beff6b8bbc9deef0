"""Shared weights in training and in entropy-coded files, against hand loops, SciPy's entropy and a file by hand."""

import copy
import importlib
import math
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn.utils import parametrize

from kdcourse import quantization as qz
from kdcourse.models import conv_net, mlp
from kdcourse.pruning import apply_masks, global_magnitude_masks
from kdcourse.quantization import SharedWeight, _adaptive

constriction = importlib.import_module("constriction")


def shared_entry(indices, codebook):
    return SharedWeight(torch.tensor(codebook), torch.as_tensor(indices, dtype=torch.uint8))


def sparse_entry(*shape, kept=0.1, seed=0, codebook=(-1.0, -0.5, 0.0, 0.5, 1.0)):
    """Random values at random places, zero elsewhere, as an entry of a codebook with a zero in the middle."""
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(len(codebook), shape, generator=generator)
    indices[torch.rand(shape, generator=generator) > kept] = codebook.index(0.0)
    return shared_entry(indices, codebook)


def strokes(rows=60, side=12, seed=0):
    """Rows that are images with one short line each, all of one sign."""
    generator = torch.Generator().manual_seed(seed)
    indices = torch.full((rows, side, side), 1)
    for image in indices:
        y, x, length, sign = (int(torch.randint(high, (), generator=generator)) for high in (side, side - 5, 5, 2))
        image[y, x : x + length + 1] = 2 * sign
    return shared_entry(indices.flatten(1), [-0.5, 0.0, 0.5])


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, entry in expected.items():
        assert found[name].codebook.dtype == torch.float32
        assert found[name].indices.dtype == torch.uint8
        assert found[name].codebook.numpy().tobytes() == entry.codebook.numpy().tobytes()
        assert torch.equal(found[name].indices, entry.indices)


def masked_mlp(density=0.1):
    model = mlp((12, 8), seed=0)
    apply_masks(model, global_magnitude_masks(model, 1 - density))
    return model


# --- training with shared weights -------------------------------------------------------------------------------------


def test_the_gradient_of_a_codebook_entry_is_the_sum_over_its_weights():
    torch.manual_seed(0)
    model, images = masked_mlp(), torch.rand(16, 1, 28, 28)
    sharing = qz.share_model(model, bits=2, bias_bits=2)
    sharing(images).square().sum().backward()
    plain = mlp((12, 8))
    shared = qz.shared_weights(sharing)
    qz.load_shared(plain, shared)
    plain(images).square().sum().backward()
    for name, entry in shared.items():
        path, _, attribute = name.rpartition(".")
        steps = getattr(sharing.get_submodule(path).parametrizations, attribute)
        gradient = plain.get_parameter(name).grad
        for k, value in enumerate(entry.codebook.tolist()):
            expected = 0.0
            for index, member in zip(entry.indices.flatten().tolist(), gradient.flatten().tolist(), strict=True):
                expected += member if index == k and value != 0 else 0.0
            # the codebook starts ascending
            assert steps.original.grad[k].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_share_model_starts_from_k_means_of_the_weights_in_use_rounded_to_float16():
    model = masked_mlp()
    shared = qz.shared_weights(qz.share_model(model, bits={"linear1": 2, "classes": 3}))
    assert list(shared) == ["linear1.weight", "classes.weight"]
    for name, bits in (("linear1", 2), ("classes", 3)):
        effective = model.get_submodule(name).weight.detach()
        expected = qz.kmeans_share(effective, bits=bits, keep_zeros=True).weight()
        torch.testing.assert_close(shared[f"{name}.weight"].weight(), expected, rtol=2**-11, atol=0)
        assert ((shared[f"{name}.weight"].weight() == 0) == (effective == 0)).all()
    assert parametrize.is_parametrized(model.linear1)  # the model given keeps its masks


@pytest.mark.parametrize("keep_zeros", [True, False])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_training_keeps_zeros_and_indices_and_computes_with_what_is_stored(tmp_path, optimizer, keep_zeros):
    torch.manual_seed(0)
    sharing = qz.share_model(masked_mlp(), bits=3, bias_bits=3, keep_zeros=keep_zeros)
    before, images = qz.shared_weights(sharing), torch.rand(32, 1, 28, 28)
    steps = optimizer(
        sharing.parameters(), lr=0.01, weight_decay=0.1, **({"momentum": 0.9} if "SGD" in str(optimizer) else {})
    )
    for _ in range(5):
        steps.zero_grad()
        sharing(images).logsumexp(dim=1).sum().backward()
        # a codebook entry without a weight would drift unseen, and one pushed by hand must not matter
        sharing.linear1.parametrizations.weight.original.data[before["linear1.weight"].codebook == 0] += (
            0.1 * keep_zeros
        )
        steps.step()
    after = qz.shared_weights(sharing)
    for name, entry in after.items():
        assert not torch.equal(entry.codebook, before[name].codebook)
        assert torch.equal(entry.codebook, entry.codebook.half().float())
        assert torch.equal(entry.codebook, entry.codebook.sort().values)
        values = torch.stack([before[name].weight().flatten(), entry.weight().flatten()])
        assert values.unique(dim=1).shape[1] == len(before[name].codebook)  # weights equal before are equal after
        assert not keep_zeros or torch.equal(values[0] == 0, values[1] == 0)
    plain = mlp((12, 8))
    qz.write_coded(tmp_path / "weights.kdc", after)
    qz.load_shared(plain, qz.read_coded(tmp_path / "weights.kdc"))
    assert torch.equal(plain(images), sharing(images))


def test_a_codebook_that_training_reorders_is_stored_ascending_with_its_indices():
    layer = nn.Linear(4, 2)
    layer.weight.data = torch.tensor([[1.0, 2.0, 0.0, 1.0], [2.0, 3.0, 3.0, 0.0]])
    free = qz.share_model(layer, bits=2, keep_zeros=False)
    free.parametrizations.weight.original.data[0] = 0.5
    assert free.weight.tolist() == [[1.0, 2.0, 0.5, 1.0], [2.0, 3.0, 3.0, 0.5]]
    sharing = qz.share_model(layer, bits=3)  # four of the eight entries have weights
    assert sharing.parametrizations.weight.original.tolist() == [0.0, 1.0, 2.0, 3.0]
    sharing.parametrizations.weight.original.data = torch.tensor([0.0, 5.0, -2.0, 3.0])
    (entry,) = qz.shared_weights(sharing).values()
    assert entry.codebook.tolist() == [-2.0, 0.0, 3.0, 5.0]
    assert entry.indices.tolist() == [[3, 0, 1, 3], [0, 2, 2, 1]]
    sharing.weight = torch.tensor([[1.0, 2.0, 9.0, 4.0], [4.0, 7.0, 8.0, 9.0]])  # means of the members, zeros stay
    assert sharing.weight.tolist() == [[2.5, 3.0, 0.0, 2.5], [3.0, 7.5, 7.5, 0.0]]


def test_copies_of_shared_models_train_apart_and_shared_convolutions_can_be_shared_again():
    first = qz.share_model(conv_net((4, 4)), bits=2, keep_zeros=False)
    second, again = copy.deepcopy(first), qz.share_model(first, bits=1, keep_zeros=False)
    second.conv1.parametrizations.weight.original.data += 1
    torch.testing.assert_close(second.conv1.weight, first.conv1.weight + 1, rtol=0, atol=2**-10)
    assert [len(model.conv2.weight.unique()) for model in (first, again)] == [4, 2]


def test_share_model_and_load_shared_name_what_is_wrong():
    model = mlp((12, 8))
    with pytest.raises(ValueError, match=r"linear9.*linear1"):
        qz.share_model(model, bits={"linear9": 2})
    with pytest.raises(ValueError, match="nothing to share"):
        qz.share_model(nn.ReLU())
    with pytest.raises(ValueError, match="shares no weights"):
        qz.shared_weights(model)
    model.linear1.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"'linear1.weight'.*float16"):
        qz.share_model(model)
    before = copy.deepcopy(model.state_dict())
    good = shared_entry(torch.zeros(10, 8), [1.0])
    with pytest.raises(ValueError, match=r"'nothing.weight'.*linear1.weight"):
        qz.load_shared(model, {"classes.weight": good, "nothing.weight": good})
    with pytest.raises(ValueError, match=r"'linear2.weight'.*\(10, 8\).*\(8, 12\)"):
        qz.load_shared(model, {"classes.weight": good, "linear2.weight": good})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_units_can_be_renumbered_and_dead_ones_dropped_without_changing_the_outputs():
    model = masked_mlp(0.05)
    with torch.no_grad():
        model.classes.parametrizations.weight[0].mask[:, :2] = False
        model.linear2.parametrizations.weight[0].mask[:, 3] = False
    shared = qz.shared_weights(qz.share_model(model, bits=2, bias_bits=2))
    dropped = qz.drop_dead_units(shared)
    renumbered = qz.renumber_units(dropped)
    images = torch.rand(20, 1, 28, 28)
    outputs = []
    for entries in (shared, dropped, renumbered):
        plain = mlp((12, 8))
        qz.load_shared(plain, entries)
        outputs.append(plain(images))
    assert torch.equal(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[0], outputs[2])
    assert (shared["linear2.weight"].weight()[:2] != 0).any()
    assert (dropped["linear2.weight"].weight()[:2] == 0).all()
    assert (dropped["linear1.weight"].weight()[3] == 0).all()
    for layer, following in (("linear1", "linear2"), ("linear2", "classes")):
        biases = renumbered[f"{layer}.bias"].indices.tolist()
        outgoing = (renumbered[f"{following}.weight"].weight() != 0).sum(dim=0).tolist()
        keys = list(zip(biases, outgoing, strict=True))
        assert keys == sorted(keys)
        assert len(set(keys)) > 3
    # the first unit leads to a dead one alone
    chain = {"a.weight": [[1, 1], [1, 1]], "b.weight": [[1, 0], [0, 1]], "c.weight": [[0, 1]]}
    chain = qz.drop_dead_units({name: shared_entry(indices, [0.0, 1.0]) for name, indices in chain.items()})
    assert chain["a.weight"].indices.tolist() == [[0, 0], [1, 1]]
    assert chain["b.weight"].indices.tolist() == [[0, 0], [0, 1]]
    with pytest.raises(ValueError, match=r"'b.weight' \(3, 4\) does not follow 'a.weight' \(5, 6\)"):
        qz.renumber_units({"a.weight": sparse_entry(5, 6), "b.weight": sparse_entry(3, 4)})


# --- files ------------------------------------------------------------------------------------------------------------


@st.composite
def entries(draw):
    shape = draw(st.sampled_from([(), (1,), (7,), (1, 1), (5, 1), (1, 9), (6, 16), (9, 5), (3, 2, 3, 3), (2, 3, 4)]))
    size = draw(st.integers(1, 6))
    codebook = draw(st.lists(st.floats(-1000, 1000, width=16), min_size=size, max_size=size))
    kept = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    indices = torch.randint(size, shape, generator=generator)
    return shared_entry(indices * (torch.rand(shape, generator=generator) < kept), codebook)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=6), entries(), min_size=1, max_size=3))
def test_any_shared_weights_come_back_bit_for_bit(tmp_path_factory, shared):
    path = tmp_path_factory.mktemp("coded") / "weights.kdc"
    qz.write_coded(path, shared)
    assert_equal(qz.read_coded(path), shared)


LARGER = {
    "sparse": {"weight": sparse_entry(50, 100, kept=0.03)},
    "strokes": {"weight": strokes()},
    "empty rows": {
        "weight": shared_entry(
            sparse_entry(40, 49).indices * (torch.arange(40) % 3 > 0)[:, None]
            + 2 * (torch.arange(40) % 3 == 0)[:, None],
            [-1.0, -0.5, 0.0, 0.5, 1.0],
        )
    },
    "all zeros": {"weight": shared_entry(torch.ones(100, 300), [-1.0, 0.0])},
    "no zero": {"weight": shared_entry(torch.randint(16, (30, 40)), [float(k + 1) for k in range(16)])},
    "one entry": {"weight": shared_entry(torch.zeros(30, 40), [3.0]), "bias": shared_entry(torch.zeros(3000), [1.0])},
    "convolution": {"weight": sparse_entry(16, 8, 3, 3, kept=0.3)},
    "256 entries": {"weight": shared_entry(torch.arange(512).reshape(16, 32) % 256, [k - 128.0 for k in range(256)])},
    "vector": {"bias": shared_entry(torch.arange(300) // 30, [k - 5.0 for k in range(10)])},
}


@pytest.mark.parametrize("name", LARGER)
def test_a_file_is_as_long_as_its_model_says_and_comes_back(tmp_path, name):
    path, shared = tmp_path / "weights.kdc", LARGER[name]
    qz.write_coded(path, shared)
    assert_equal(qz.read_coded(path), shared)
    assert qz.model_bytes(shared) <= os.path.getsize(path) <= 1.01 * qz.model_bytes(shared) + 8
    assert os.listdir(tmp_path) == ["weights.kdc"]


def test_entropy_bytes_of_fractions_worked_by_hand_and_scipys():
    # 8 indices (1/2, 1/4, 1/4): 8 · 1.5 bits; 4 equal ones: none
    entry = shared_entry([[0, 0, 0, 0], [1, 1, 2, 2]], [1.0, 2.0, 3.0, 4.0])
    assert qz.entropy_bytes({"a": entry, "b": shared_entry([1, 1, 1, 1], [1.0, 2.0])}) == pytest.approx(1.5)
    entry = sparse_entry(50, 60, kept=0.4)
    counts = np.unique(entry.indices.numpy(), return_counts=True)[1]
    assert qz.entropy_bytes({"a": entry}) == pytest.approx(3000 * stats.entropy(counts, base=2) / 8)


def test_model_bytes_stay_near_the_entropy_of_noise_and_go_below_it_where_weights_form_strokes():
    noise, lines = {"weight": sparse_entry(100, 144, kept=0.05)}, {"weight": strokes(rows=100)}
    header = 40
    assert qz.model_bytes(noise) < 1.03 * qz.entropy_bytes(noise) + header
    assert qz.model_bytes(lines) < 0.75 * qz.entropy_bytes(lines) + header
    runs = {"bias": shared_entry(torch.arange(300) // 30, [k - 5.0 for k in range(10)])}
    assert qz.model_bytes(runs) < 0.2 * qz.entropy_bytes(runs) + 2 * 10 + header


@pytest.mark.parametrize(("one", "many"), [((1,), (100_000,)), ((1, 1), (400, 250))])
def test_no_index_is_cheaper_than_what_a_reader_takes_for_the_least(one, many):
    def size(shape):
        return qz.model_bytes({"w": shared_entry(torch.zeros(shape), [0.0, 1.0])})

    bytes_of_longer_dimensions = 2
    assert 8 * (size(many) - size(one) - bytes_of_longer_dimensions) >= 100_000 / 4096


def header(name, *shape, codebook):
    """The documented header, written by hand for one tensor with short numbers."""
    head = bytes([1, 0, len(name)]) + name + bytes([len(shape), *shape, len(codebook) - 1])
    return head + struct.pack(f"<{len(codebook)}e", *codebook)


def file_of(content, indices):
    content = struct.pack("<I", zlib.crc32(bytes(indices))) + content
    return b"KDC\x01" + struct.pack("<I", zlib.crc32(content)) + content


def test_a_vector_written_by_hand_from_the_format_is_the_file(tmp_path):
    """Indices 2 2 0 2: the first by even counts; repeats with chances 1/2, 3/4 and 1/2; others by counts plus 1/2."""
    model = constriction.stream.model
    encoder = constriction.stream.queue.RangeEncoder()

    def flag(chance, value):
        encoder.encode(np.array([value], dtype=np.int32), model.Bernoulli(perfect=False), np.array([chance]))

    def symbol(counts, value):
        encoder.encode(value, model.Categorical(np.array(counts), perfect=False))

    symbol([0.5, 0.5, 0.5], 2)
    flag(0.5, 1)
    flag(0.75, 0)
    symbol([0.5, 0.5], 0)
    flag(0.5, 0)
    symbol([0.5, 1.5], 1)  # entries 1 and 2, of which 2 was counted once
    words = encoder.get_compressed().astype("<u4").tobytes()
    by_hand = file_of(header(b"bias", 4, codebook=(-1.0, 0.0, 2.5)) + words, [2, 2, 0, 2])
    path, entry = tmp_path / "weights.kdc", shared_entry([2, 2, 0, 2], [-1.0, 0.0, 2.5])
    qz.write_coded(path, {"bias": entry})
    assert path.read_bytes() == by_hand
    path.write_bytes(by_hand)
    assert_equal(qz.read_coded(path), {"bias": entry})
    expected = 1 / 3 * 1 / 2 * 1 / 4 * 1 / 2 * 1 / 2 * 3 / 4
    assert qz.model_bytes({"bias": entry}) == pytest.approx(len(by_hand) - len(words) - math.log2(expected) / 8)


def log(value):
    return (value ** (1 / 1024) - 1) * 1024


class Regression:
    """The format's logistic regression, a number at a time."""

    def __init__(self, features):
        self.weights, self.curvatures = [0.0] * features, [1.0] * features

    def chance(self, features, offset=0.0):
        logit = offset + sum(w * x for w, x in zip(self.weights, features, strict=True))
        return 1 / (1 + (1 - max(-8.0, min(8.0, logit)) / 1024) ** 1024)

    def learn(self, batch):
        for k in range(len(self.weights)):
            self.curvatures[k] += sum(p * (1 - p) * x[k] ** 2 for x, p, _ in batch)
            self.weights[k] += 0.2 * sum((y - p) * x[k] for x, p, y in batch) / math.sqrt(self.curvatures[k])


def kept_by_hand(flag, wanted, width):
    """Flags of a matrix of truths, cell by cell, from the format's text."""
    rows, columns = len(wanted), len(wanted[0])
    coded, model, patterns, rings = {}, Regression(5), {}, {}
    expected = [0.0] * rows

    def around(row, column, keep):
        steps = [(u, x) for u in range(-5, 1) for x in range(-5, 6) if (u < 0 or x < 0) and keep(u, x)]
        return sum(coded.get((row, column + u * width + x), 0) for u, x in steps if width or not u)

    for diagonal in range(rows + columns - 1):
        rate, batch = (sum(coded.values()) + 0.4) / (len(coded) + 20), []
        cells = [(row, diagonal - row) for row in range(rows) if 0 <= diagonal - row < columns]
        for row, column in cells:
            near = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)]
            near = [(u, x) for u, x in near if width or not u]
            pattern = tuple(coded.get((row, column + u * width + x), 0) for u, x in near)
            middle = around(row, column, lambda u, x: 2 <= max(-u, abs(x)) <= 3)
            far = around(row, column, lambda u, x: max(-u, abs(x)) >= 4)
            ring = min(7, middle), min(6, far // 2)
            diamond = [(u, x) for u in range(-2, 3) for x in range(-2, 3) if abs(u) + abs(x) <= 2 and (width or not u)]
            pixels = [column + u * width + x for u, x in diamond]
            seen = [coded[r, c] for c in pixels for r in range(rows) if (r, c) in coded]

            def density(found, rate=rate):
                return (sum(found) + 0.4) / (len(found) + 0.4 / rate)

            full = sum(coded.get((row, c), 0) for c in range(columns))
            features = [1.0, log(density(seen) / rate), log((full + 1) / (expected[row] + 1))]
            features += [
                log(density(counts.get(key, [])) / rate) for counts, key in ((patterns, pattern), (rings, ring))
            ]
            chance, y = model.chance(features, log(rate / (1 - rate))), wanted[row][column]
            flag(chance, y)
            batch.append((features, chance, y, row, column, pattern, ring, density(seen)))
        model.learn([entry[:3] for entry in batch])
        for _, _, y, row, column, pattern, ring, pixel_density in batch:
            coded[row, column] = y
            expected[row] += pixel_density
            patterns.setdefault(pattern, []).append(y)
            rings.setdefault(ring, []).append(y)


def values_by_hand(flag, symbol, indices, width):
    """Signs and entries of the codebook (-2, -1, 0, 1, 2), where kept, row by row."""
    model, counts = Regression(5), {-1: [0.5, 0.5], 1: [0.5, 0.5]}
    for row in indices:
        signs = {}
        for column, index in enumerate(row):
            if index == 2:
                continue
            groups = [(0, -1)], [(-1, 0)], [(-1, -1), (-1, 1)], [(0, -2), (-2, 0)]
            features = [1.0]
            for group in groups:
                features.append(sum(signs.get(column + u * width + x, 0) for u, x in group if width or not u))
            chance, negative = model.chance(features), index < 2
            flag(chance, negative)
            model.learn([(features, chance, negative)])
            signs[column] = -1 if negative else 1
            rank = index if negative else index - 3
            symbol(counts[signs[column]], rank)
            counts[signs[column]][rank] += 1


@pytest.mark.parametrize(
    ("shape", "width"),
    [((9, 7), 0), ((12, 64), 8), ((7, 4, 3, 3), 3), ((6, 4, 4), 0), ((4, 1, 1, 64), 64), ((4, 1, 1, 65), 0)],
)
def test_a_second_writer_from_the_text_of_the_format_makes_the_same_file(tmp_path, shape, width):
    entry = sparse_entry(*shape, kept=0.4, codebook=(-2.0, -1.0, 0.0, 1.0, 2.0))
    matrix = entry.indices.reshape(shape[0], -1).tolist()
    model, encoder = constriction.stream.model, constriction.stream.queue.RangeEncoder()

    def flag(chance, value):
        encoder.encode(np.array([value], dtype=np.int32), model.Bernoulli(perfect=False), np.array([chance]))

    def symbol(counts, value):
        encoder.encode(value, model.Categorical(np.array(counts), perfect=False))

    kept_by_hand(flag, [[int(index != 2) for index in row] for row in matrix], width)
    values_by_hand(flag, symbol, matrix, width)
    content = (
        header(b"w", *shape, codebook=(-2.0, -1.0, 0.0, 1.0, 2.0)) + encoder.get_compressed().astype("<u4").tobytes()
    )
    qz.write_coded(tmp_path / "weights.kdc", {"w": entry})
    assert (tmp_path / "weights.kdc").read_bytes() == file_of(content, entry.indices.flatten().tolist())


def test_names_share_their_beginnings_and_long_numbers_are_varints(tmp_path):
    path = tmp_path / "weights.kdc"
    shared = {"ab.weight": shared_entry(torch.zeros(300), [1.0]), "ab.bias": shared_entry([0], [1.0])}
    qz.write_coded(path, shared)
    assert_equal(qz.read_coded(path), shared)
    first = bytes([0, 9]) + b"ab.weight" + bytes([1, 0b10101100, 2, 0]) + struct.pack("<e", 1.0)
    second = bytes([3, 4]) + b"bias" + bytes([1, 1, 0]) + struct.pack("<e", 1.0)
    assert path.read_bytes()[12:].startswith(bytes([2]) + first + second)


def test_arithmetic_stands_in_for_exp_and_log():
    values = np.linspace(-8, 8, 1001)
    np.testing.assert_allclose(_adaptive._exp(values), (1 + values / 1024) ** 1024, rtol=1e-12)
    np.testing.assert_allclose(_adaptive._log(_adaptive._exp(values)), values, atol=1e-9)


def test_a_damaged_file_is_refused_by_name_and_never_read_as_other_weights(tmp_path):
    path, shared = (
        tmp_path / "weights.kdc",
        {"a.weight": sparse_entry(6, 9), "a.bias": shared_entry([0, 1], [1.0, 2.0])},
    )
    qz.write_coded(path, shared)
    data = path.read_bytes()
    damaged = [data[:k] for k in range(len(data))] + [data + b"\0", b"", b"not a coded file"]
    for k in range(len(data)):
        for bit in (0, 7):
            damaged.append(data[:k] + bytes([data[k] ^ 1 << bit]) + data[k + 1 :])
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"weights\.kdc"):
            qz.read_coded(path)
    with pytest.raises(FileNotFoundError):
        qz.read_coded(tmp_path / "nothing.kdc")


def test_more_weights_than_a_reader_accepts_are_not_written(tmp_path):
    entry = SharedWeight(torch.ones(1), torch.zeros((), dtype=torch.uint8).expand(2**12, 2**12 + 1))
    with pytest.raises(ValueError, match="more than 16777216 weights"):
        qz.write_coded(tmp_path / "weights.kdc", {"w": entry})


HUGE = bytes([255] * 8 + [1])
HOSTILE = {
    "claims": bytes([1, 0, 1]) + b"w" + bytes([2]) + HUGE + HUGE + bytes([0, 0, 60]),
    "of 0 |claims 0": bytes([1, 0, 1]) + b"w" + bytes([1, 0, 0, 0, 60]),
    "claims 1 ": header(b"w", 1, codebook=(math.nan,)),
    "claims 33554432 ": bytes([1, 0, 1]) + b"w" + bytes([1, 128, 128, 128, 16, 0, 0, 60]) + bytes(2000),
    "too long": bytes([255] * 40),
    "ends within": bytes([200, 1, 0, 50]) + b"w",
    "twice": bytes([2]) + 2 * bytes([0, 0, 1, 1, 0, 0, 60]),
    "utf-8": header(b"\xff", 1, codebook=(1.0,)),
    "buffer size": header(b"w", 1, codebook=(1.0,)) + b"abc",
    "codebook": header(b"w", 40, 1, codebook=(1.0,)) + bytes([250] * 8),
    "second checksum": header(b"w", 5, codebook=(1.0, 2.0)) + bytes([7] * 8),
}


@pytest.mark.parametrize("why", HOSTILE)
def test_a_file_made_to_harm_with_valid_checksums_is_refused(tmp_path, why):
    path = tmp_path / "weights.kdc"
    path.write_bytes(file_of(HOSTILE[why], [9]))
    with pytest.raises(ValueError, match=rf"(?s)weights\.kdc.*({why})"):
        qz.read_coded(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (shared_entry([0], [0.1]), "not exact in float16"),
        (shared_entry([0], [1e6]), "not exact in float16"),
        (shared_entry([0], [math.inf]), "not exact in float16"),
        (shared_entry([0], [math.nan]), "not exact in float16"),
        (SharedWeight(torch.ones(2, dtype=torch.float64), torch.zeros(1, dtype=torch.uint8)), "float32 numbers"),
        (shared_entry([0], [1.0] * 257), "1 to 256"),
        (shared_entry([2], [1.0, 2.0]), "uint8 below 2"),
        (SharedWeight(torch.ones(2), torch.zeros(1, dtype=torch.int64)), "uint8 below 2"),
        (shared_entry([], [1.0]), "and some"),
    ],
)
def test_write_coded_refuses_what_it_cannot_keep_and_leaves_the_old_file(tmp_path, entry, message):
    path = tmp_path / "weights.kdc"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=f"'w'.*{message}"):
        qz.write_coded(path, {"w": entry})
    with pytest.raises(ValueError, match="nothing to write"):
        qz.write_coded(path, {})
    assert path.read_bytes() == b"old"


def test_without_constriction_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "constriction", None)
    entry = {"w": sparse_entry(3, 4)}
    assert qz.model_bytes(entry) > 0
    with pytest.raises(ImportError, match=r"constriction is not installed: pip install 'kdcourse\[coding\]'"):
        qz.write_coded(tmp_path / "weights.kdc", entry)
