"""What `claim` prints, and what it does when the sentence is no longer true."""

import json
import math

import numpy as np
import pytest
import torch

from kdcourse.claims import ClaimError, claim


def test_a_claim_that_holds_prints_statement_and_bound_but_not_the_value(capsys):
    claim("the student is good", 0.98765, at_least=0.975)
    claim("it errs rarely", 12, at_most=1200)
    claim("it lies between", torch.tensor(0.51), at_least=0.5, at_most=0.6)
    claim("it counts", 26490, equals=26490)
    claim("it is near", 3.1416, equals=math.pi, within=1e-4)
    claim("it is so", True, equals=True)
    assert capsys.readouterr().out.splitlines() == [
        "✔ the student is good  [≥ 0.975]",
        "✔ it errs rarely  [≤ 1,200]",
        "✔ it lies between  [≥ 0.5 and ≤ 0.6]",
        "✔ it counts  [exactly 26,490]",
        "✔ it is near  [3.14159 ± 0.0001]",
        "✔ it is so  [exactly True]",
    ]


def test_the_value_is_shown_only_on_request(capsys):
    claim("the student is good", torch.tensor(0.9876543), at_least=0.975, show=True)
    assert capsys.readouterr().out == "✔ the student is good  [≥ 0.975]  measured 0.987654\n"


def test_claims_that_hold_are_recorded_where_the_environment_names_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDCOURSE_CLAIMS", str(tmp_path / "claims"))
    claim("κ is high", torch.tensor(0.5), at_least=0.25)
    with pytest.raises(ClaimError):
        claim("it fails", 0.1, at_least=0.25)
    claim("it is so", True, equals=True)
    lines = [json.loads(line) for line in (tmp_path / "claims").read_text(encoding="utf-8").splitlines()]
    assert lines == [
        {"text": "κ is high", "bound": "≥ 0.25", "value": 0.5},
        {"text": "it is so", "bound": "exactly True", "value": True},
    ]


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0.9712, {"at_least": 0.975}, "✘ S: measured 0.9712, claimed ≥ 0.975"),
        (0.9712, {"at_most": 0.97}, "✘ S: measured 0.9712, claimed ≤ 0.97"),
        (0.4, {"at_least": 0.5, "at_most": 0.6}, "✘ S: measured 0.4, claimed ≥ 0.5 and ≤ 0.6"),
        (0.7, {"at_least": 0.5, "at_most": 0.6}, "✘ S: measured 0.7, claimed ≥ 0.5 and ≤ 0.6"),
        (26491, {"equals": 26490}, "✘ S: measured 26,491, claimed exactly 26,490"),
        (1.2, {"equals": 1.0, "within": 0.1}, "✘ S: measured 1.2, claimed 1 ± 0.1"),
        (0.8, {"equals": 1.0, "within": 0.1}, "✘ S: measured 0.8, claimed 1 ± 0.1"),
        (False, {"equals": True}, "✘ S: measured False, claimed exactly True"),
        ("relu", {"equals": "gelu"}, "✘ S: measured relu, claimed exactly gelu"),
    ],
)
def test_a_claim_that_fails_raises_naming_value_and_bound_and_prints_nothing(capsys, value, bounds, message):
    with pytest.raises(ClaimError) as caught:
        claim("S", value, **bounds)
    assert str(caught.value) == message
    assert capsys.readouterr().out == ""


def test_a_failed_claim_is_an_assertion_error():
    assert issubclass(ClaimError, AssertionError)


def test_bounds_are_inclusive():
    claim("low end", 0.5, at_least=0.5)
    claim("high end", 0.5, at_most=0.5)
    claim("edge", 1.5, equals=1.0, within=0.5)
    claim("other edge", 0.5, equals=1.0, within=0.5)
    claim("no width", 1.0, equals=1.0, within=0)


@pytest.mark.parametrize("nan", [math.nan, torch.tensor(math.nan), np.float32("nan")])
@pytest.mark.parametrize(
    "bounds", [{"at_least": -1e9}, {"at_most": 1e9}, {"equals": math.nan}, {"equals": 0.0, "within": math.inf}]
)
def test_nan_misses_every_bound(nan, bounds):
    with pytest.raises(ClaimError, match="measured nan"):
        claim("S", nan, **bounds)


@pytest.mark.parametrize("infinity", [math.inf, -math.inf, torch.tensor(math.inf), np.float32("inf")])
@pytest.mark.parametrize("bounds", [{"at_least": -1e9}, {"at_most": 1e9}, {"equals": math.inf}])
def test_infinity_misses_every_bound(infinity, bounds):
    with pytest.raises(ClaimError, match="measured -?inf"):
        claim("twice as fast", infinity, **bounds)


def test_lists_with_nan_are_equal_to_nothing():
    numbers = [1.0, math.nan]
    with pytest.raises(ClaimError):
        claim("the same list", numbers, equals=numbers)
    claim("equal lists", [1.0, 2.0], equals=[1.0, 2.0])


@pytest.mark.parametrize("limit", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["at_least", "at_most", "equals"])
def test_a_bound_that_is_no_number_is_refused_whatever_the_value(name, limit, capsys):
    with pytest.raises(ValueError, match="a bound must not be NaN or infinite"):
        claim("S", 0.5, **{name: limit})
    with pytest.raises(ValueError, match="a bound must not be NaN or infinite"):
        claim("S", 0.5, equals=0.5, within=math.inf)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("number", [torch.tensor, np.float64, np.float32, np.array])
def test_tensors_and_numpy_numbers_are_held_against_the_bound_by_their_value(number):
    claim("it holds", number(0.75), at_least=0.75, at_most=0.75)
    with pytest.raises(ClaimError, match=r"measured 0\.25, claimed ≥ 0\.75"):
        claim("it fails", number(0.25), at_least=0.75)


def test_zero_is_a_bound_like_any_other():
    claim("none", 0, equals=0)
    for bounds in ({"equals": 0}, {"at_most": 0}):
        with pytest.raises(ClaimError):
            claim("none", 1, **bounds)
    with pytest.raises(ClaimError):
        claim("positive", -1, at_least=0)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "needs a bound"),
        ({"within": 0.1}, "needs a bound"),
        ({"equals": 1, "at_least": 1}, "not both"),
        ({"equals": 1, "at_most": 1}, "not both"),
        ({"at_least": 1, "within": 0.1}, "within needs equals"),
        ({"equals": 1, "within": -0.1}, "must be >= 0"),
        ({"equals": 1, "within": math.nan}, "must be >= 0"),
    ],
)
def test_bounds_that_make_no_sense_are_refused_also_where_the_value_would_pass(bounds, message):
    with pytest.raises(ValueError, match=message):
        claim("S", 1, **bounds)


def test_more_than_one_number_is_no_value():
    with pytest.raises((ValueError, RuntimeError)):
        claim("S", torch.tensor([1.0, 2.0]), at_least=0)
