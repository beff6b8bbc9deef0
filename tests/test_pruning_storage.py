"""Bytes of sparse layers against sums by hand, SciPy's compressed rows, and files that are really written."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse

from kdcourse import pruning

FORMATS = ["dense", "bitmask", "csr", "nm"]
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8]
SHAPES = [(5, 8), (6, 12, 3, 3), (3, 256), (2, 260), (1, 4), (300, 4)]


def sparse_weight(shape, dtype=torch.float32, *, share=0.5, seed=0):
    """A weight that 2:4 can hold, further pruned at random; no kept number is zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(1, 100, shape, generator=generator)
    kept = pruning.random_mask(torch.ones(shape), share, seed=seed)
    if len(shape) > 1 and shape[1] % 4 == 0:
        kept &= pruning.nm_mask(torch.rand(shape, generator=generator))
    return (values * kept).to(dtype)


def mask_of(rows, columns, kept):
    mask = torch.zeros(rows * columns, dtype=torch.bool)
    mask[:kept] = True
    return mask.reshape(rows, columns)


# 100 × 300 = 30,000 weights, 3,000 kept: 9 bits address a column, so two bytes; 30,000 needs two bytes as well
@pytest.mark.parametrize(
    ("format", "value_bits", "expected"),
    [
        ("dense", 32, 30_000 * 4),
        ("dense", 8, 30_000),
        ("bitmask", 32, 30_000 // 8 + 3_000 * 4),
        ("bitmask", 8, 30_000 // 8 + 3_000),
        ("csr", 32, 3_000 * (4 + 2) + 101 * 2),
        ("csr", 16, 3_000 * (2 + 2) + 101 * 2),
    ],
)
def test_storage_bytes_by_hand(format, value_bits, expected):
    kept = pruning.random_mask(torch.ones(100, 300), 0.9)
    assert pruning.storage_bytes(kept, format, value_bits=value_bits) == expected


@pytest.mark.parametrize(
    ("n", "m", "value_bits", "expected"),
    # 64 groups of 4 keep 2 at 2 bits, 32 of 8 keep 2 at 3 bits, 64 of 4 keep 1
    [(2, 4, 32, 128 * 4 + 32), (2, 4, 8, 128 + 32), (2, 8, 16, 64 * 2 + 24), (1, 4, 32, 64 * 4 + 16)],
)
def test_nm_storage_by_hand(n, m, value_bits, expected):
    mask = pruning.nm_mask(torch.rand(4, 16, 2, 2, generator=torch.Generator().manual_seed(0)), n=n, m=m)
    assert pruning.storage_bytes(mask, "nm", value_bits=value_bits, n=n, m=m) == expected
    # a slot is paid for whether it holds a zero or not
    mask[0] = False
    assert pruning.storage_bytes(mask, "nm", value_bits=value_bits, n=n, m=m) == expected


def test_odd_bits_are_filled_up_to_a_byte_and_a_vector_is_one_row():
    mask = torch.tensor([True] * 3 + [False] * 6)
    assert pruning.storage_bytes(mask, "bitmask") == 2 + 3 * 4
    assert pruning.storage_bytes(mask, "csr") == 3 * (4 + 1) + 2 * 1


@pytest.mark.parametrize(
    ("rows", "columns", "column_bytes", "start_bytes"),
    [(1, 255, 1, 1), (1, 256, 1, 2), (1, 257, 2, 2), (2, 65_536, 2, 4), (1, 65_537, 4, 4)],
)
def test_csr_indices_are_the_smallest_unsigned_integers_that_fit(rows, columns, column_bytes, start_bytes):
    expected = 10 * (4 + column_bytes) + (rows + 1) * start_bytes
    assert pruning.storage_bytes(mask_of(rows, columns, 10), "csr") == expected


@pytest.mark.parametrize("shape", [*SHAPES, (9,)])
def test_csr_file_holds_scipys_arrays(tmp_path, shape):
    weight = sparse_weight(shape)
    pruning.write_layer(tmp_path / "layer", weight, "csr")
    found = load_file(tmp_path / "layer")
    expected = sparse.csr_array(weight.reshape(shape[0] if len(shape) > 1 else 1, -1).numpy())
    assert np.array_equal(found["values"], expected.data)
    assert np.array_equal(found["columns"].numpy(), expected.indices)
    assert np.array_equal(found["row_starts"].numpy(), expected.indptr)
    kept = weight != 0
    assert pruning.storage_bytes(kept, "csr") == sum(found[name].nbytes for name in found)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_reads_back_exactly_and_its_file_is_the_formula_and_the_header(tmp_path, shape, format, dtype):
    weight, path = sparse_weight(shape, dtype), tmp_path / "layer.safetensors"
    pruning.write_layer(path, weight, format)
    again = pruning.read_layer(path)
    assert again.dtype == dtype
    assert again.is_contiguous()
    assert torch.equal(again, weight)
    formula = pruning.storage_bytes(weight != 0, format, value_bits=8 * weight.element_size())
    assert path.stat().st_size == formula + pruning.header_bytes(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 5), (1, 3), (2, 16), (6, 8)])
def test_every_n_of_m_reads_back_exactly(tmp_path, n, m):
    weight = torch.randn(6, 4 * m, 3, generator=torch.Generator().manual_seed(0))
    weight = weight * pruning.nm_mask(weight, n=n, m=m)
    weight[1] = 0
    pruning.write_layer(tmp_path / "layer", weight, "nm", n=n, m=m)
    assert torch.equal(pruning.read_layer(tmp_path / "layer"), weight)
    size = (tmp_path / "layer").stat().st_size - pruning.header_bytes(tmp_path / "layer")
    assert size == pruning.storage_bytes(weight != 0, "nm", n=n, m=m)
    slots = weight.numel() // m * n
    assert size == slots * 4 + math.ceil(slots * math.ceil(math.log2(m)) / 8)


@pytest.mark.parametrize("format", ["dense", "bitmask", "csr"])
def test_weights_in_any_layout_with_gradient_and_without_zeros_read_back(tmp_path, format):
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(6, 5, 3, 3, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    for weight in (full, full.transpose(0, 1), torch.zeros(3, 4), torch.full((2, 2), math.nan)):
        pruning.write_layer(tmp_path / "layer", weight, format)
        again = pruning.read_layer(tmp_path / "layer")
        assert np.array_equal(again.numpy(), weight.detach().numpy(), equal_nan=True)
        assert not again.requires_grad


def test_header_bytes_is_what_precedes_the_numbers(tmp_path):
    path = tmp_path / "layer"
    pruning.write_layer(path, sparse_weight((5, 8)), "csr")
    data = path.read_bytes()
    header = json.loads(data[8 : pruning.header_bytes(path)])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert len(data) == pruning.header_bytes(path) + max(ends)


@pytest.mark.parametrize("value_bits", [8, 16, 32])
@pytest.mark.parametrize("format", ["bitmask", "csr"])
@pytest.mark.parametrize(("rows", "columns"), [(16, 40), (30, 300)])
def test_break_even_sparsity_is_where_the_sizes_cross(format, rows, columns, value_bits):
    total = rows * columns
    share = pruning.break_even_sparsity(format, (rows, columns), value_bits=value_bits)
    dense = total * value_bits // 8
    smaller = [
        kept
        for kept in range(total + 1)
        if pruning.storage_bytes(mask_of(rows, columns, kept), format, value_bits=value_bits) < dense
    ]
    assert smaller == [kept for kept in range(total + 1) if 1 - kept / total > share + 1e-12]
    assert 0 < share < 1


def test_break_even_sparsity_by_hand():
    shape = 100, 300
    assert pruning.break_even_sparsity("bitmask", shape) == pytest.approx(1 / 32)
    assert pruning.break_even_sparsity("bitmask", shape, value_bits=8) == pytest.approx(1 / 8)
    assert pruning.break_even_sparsity("csr", shape) == pytest.approx(1 - (120_000 - 202) / 6 / 30_000)
    # for one byte of value there are two of index: two thirds of the weights have to go
    assert pruning.break_even_sparsity("csr", shape, value_bits=8) == pytest.approx(1 - (30_000 - 202) / 3 / 30_000)
    assert pruning.break_even_sparsity("nm", shape) == 0.5
    assert pruning.break_even_sparsity("nm", (8, 16), n=1, m=8) == 7 / 8


@pytest.mark.parametrize(
    ("format", "shape", "options"),
    # row starts alone outweigh one column; 7 bytes and 7 places of 3 bits outweigh 8 bytes
    [("dense", (10, 10), {}), ("csr", (300, 1), {"value_bits": 8}), ("nm", (8, 8), {"n": 7, "m": 8, "value_bits": 8})],
)
def test_break_even_sparsity_is_one_where_nothing_helps(format, shape, options):
    assert pruning.break_even_sparsity(format, shape, **options) == 1.0


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("value_bits", [0, 4, 64])
def test_other_value_widths_are_refused(format, value_bits):
    with pytest.raises(ValueError, match="value_bits must be 8, 16 or 32"):
        pruning.storage_bytes(torch.eye(4, dtype=torch.bool), format, value_bits=value_bits)
    with pytest.raises(ValueError, match="value_bits must be 8, 16 or 32"):
        pruning.break_even_sparsity(format, (4, 4), value_bits=value_bits)


def test_bad_input_is_refused_with_what_to_do(tmp_path):
    full, path = torch.ones(2, 8), tmp_path / "layer"
    refused = [
        (lambda: pruning.storage_bytes(full > 0, "coo"), "unknown format 'coo': choose one of dense, bitmask, csr, nm"),
        (lambda: pruning.write_layer(path, full, "coo"), "unknown format 'coo'"),
        (lambda: pruning.break_even_sparsity("coo", (2, 8)), "unknown format 'coo'"),
        (lambda: pruning.storage_bytes(full, "dense"), "bool tensor, True = kept, got torch.float32"),
        (lambda: pruning.storage_bytes(torch.ones(0, 4) > 0, "dense"), "non-empty"),
        (lambda: pruning.storage_bytes(full > 0, "nm"), "keeps 4 of 4 weights, 2:4 allows 2: .*nm_mask"),
        (lambda: pruning.write_layer(path, full, "nm"), "keeps 4 of 4 weights, 2:4 allows 2: .*nm_mask"),
        (lambda: pruning.storage_bytes(torch.ones(2, 6) > 0, "nm"), "I a multiple of 4"),
        (lambda: pruning.write_layer(path, full.double(), "dense"), "cannot store torch.float64"),
        (lambda: pruning.write_layer(path, full[:0], "dense"), "cannot store"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, monkeypatch):
    path, weight = tmp_path / "layer", sparse_weight((5, 8))
    pruning.write_layer(path, weight, "csr")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pruning.write_layer(path, 2 * weight, "csr")
    assert torch.equal(pruning.read_layer(path), weight)
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_layer_gives_the_same_bytes(tmp_path):
    written = set()
    for _ in range(3):
        pruning.write_layer(tmp_path / "layer", sparse_weight((6, 12, 3, 3)), "nm")
        written.add((tmp_path / "layer").read_bytes())
    assert len(written) == 1


def test_reading_a_missing_damaged_or_foreign_file_says_which(tmp_path):
    path = tmp_path / "layer"
    with pytest.raises(FileNotFoundError, match="layer"):
        pruning.read_layer(path)
    for format in FORMATS:
        pruning.write_layer(path, sparse_weight((5, 8)), format)
        whole = path.read_bytes()
        for damaged in (b"", whole[:7], whole[:40], whole[:-1], b"x" * 200):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="layer is damaged or was not written by write_layer"):
                pruning.read_layer(path)
    save_file({"values": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="layer is damaged or was not written by write_layer"):
        pruning.read_layer(path)
