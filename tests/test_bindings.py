"""What the notebooks say is held: each sentence with a result, each formula and each claim by what its file names."""

import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
from bindings import claims, evidence, files, words  # noqa: E402 (scripts, no package)

NUMBERS = [path.name[:2] for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


@pytest.mark.parametrize("number", NUMBERS)
def test_everything_said_is_held(number):
    notebook = nbformat.read(files.notebook_path(number), as_version=4)
    left = files.all_problems(notebook, files.load(number))
    assert not left, f"python .ci/bind.py {number}, then tests/bindings/notebook_{number}.toml:\n" + "\n".join(left)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_file_is_as_the_tool_writes_it(number):
    text = files.binding_path(number).read_text(encoding="utf-8")
    assert files.written(number, files.load(number), {}) == text, f"python .ci/bind.py {number}"


# --- relations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "means"),
    [
        ("≥ 0.5", "> 0"),
        ("≥ 0.5", ">= 0.5"),
        ("≤ -0.3", "< 0"),
        ("≥ 1 and ≤ 2.5", "1 to 2.5"),
        ("≥ 1 and ≤ 2.5", "~ 2"),
        ("exactly 1,000", "= 1000"),
        ("exactly 1,000", ">= 1000"),
        ("0.27 ± 0.01", "= 0.3"),
        ("0.95 ± 0.0001", "= 0.95"),
        ("exactly True", "True"),
        ("exactly relu", "relu"),
        ("0.8 ± 0.05", "<= 0.85"),
        ("0.8 ± 0.05", "0.75 to 0.85"),
        ("0 ± 1e-12", "<= 0.001"),
        ("0 ± 1e-12", "= 0"),
    ],
)
def test_a_bound_implies_what_is_no_narrower(bound, means):
    assert claims.implies(bound, means)


@pytest.mark.parametrize(
    ("bound", "means"),
    [
        ("≥ 0", "> 0"),
        ("≥ 0.5", ">= 0.6"),
        ("≥ 0.5", "<= 1"),
        ("≥ -0.5", "> 0"),
        ("≥ 1 and ≤ 2.5", "1 to 2"),
        ("≥ 1", "~ 2"),
        ("exactly 1,000", "= 1001"),
        ("0.27 ± 0.01", "= 0.27"),
        ("exactly True", "False"),
        ("exactly True", "= 1"),
        ("≤ 2", "> 0"),
        ("0 ± 0.2", "= 0"),
    ],
)
def test_a_bound_does_not_imply_more_than_it_says(bound, means):
    assert not claims.implies(bound, means)


@pytest.mark.parametrize(
    ("bound", "measured"),
    [
        ("≥ 1.5", 2.8),
        ("≤ 2", 1.1),
        ("≥ 0", 12),
        ("≤ 0", -3),
        ("≤ 1e-09", 1e-16),
        ("≥ -1", -0.6),
        ("≥ 0.975", 0.985),
        ("1 ± 0.3", 1.05),
        ("≥ 1 and ≤ 2.5", 1.6),
        ("0 ± 0.2", 0.15),
        ("exactly 3", 3),
        ("≥ 0.95", 1),
        ("1.4427 ± 1e-12", 1.442695),
    ],
)
def test_a_near_bound_is_not_loose(bound, measured):
    assert not claims.loose(bound, measured)


@pytest.mark.parametrize(
    ("bound", "measured"),
    [
        ("≥ 1.5", 3.2),
        ("≤ 2", 0.9),
        ("≥ -2", -0.2),
        ("≥ -2", 0.5),
        ("≤ 0.5", -0.1),
        ("≥ 0.6", 0.98),
        ("1 ± 0.8", 1.05),
        ("≥ 1 and ≤ 2.5", 1.1),
        ("0 ± 0.8", 0.05),
        ("≤ -0.5", -1.2),
        ("≥ 1.5", 1.4),
    ],
)
def test_a_bound_far_from_what_was_measured_is_loose(bound, measured):
    assert claims.loose(bound, measured)


# --- sentences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "count"),
    [
        ("One. Two! Three?", 3),
        ("As Han et al. (arXiv:1506.02626) found, 0.5 is enough.", 1),
        ("See e.g. Fig. 3. Then go.", 2),
        ('He said "so." Then *he* went.', 2),
        ("It is $x$. $y$ is not.", 2),
        ("Version 1.2 is out", 1),
        ("**2. Cold starts.** The first call loads.", 2),
    ],
)
def test_sentences_are_told_apart(block, count):
    assert len(list(words.split(block))) == count


@pytest.mark.parametrize(
    ("source", "needs"),
    [
        ("The teacher beats the student.", ["why"]),
        ("It has four layers.", ["kind"]),
        ("A mask says what is kept.", [""]),
        ("Is it faster?", [""]),
        ("**2. Two starts.** It loads.", ["", ""]),
        ("## It is faster", [""]),
        ('**"It is ten times faster."**', [""]),
        ("Take 10 of them.", [""]),
        ("> **Predict.** At 90 %, which is better?", ["", ""]),
        ("**Exercise 05.1 · x** (1 point). It has more than 2 rows.", ["", ""]),
        ("See notebook 05, or [05 · Pruning](05_pruning.ipynb), or `x > 3`.", [""]),
        ("Lies lie:\n\n- at 2\n- no", ["", "kind", ""]),
        ("## Further reading\n\n- LeCun. *Better than 10.*", ["", "", ""]),
        ("At $T = 4$ it is so.", ["kind"]),
        ("Hinton et al. (2015) say so, arXiv:1503.02531.", [""]),
        ("LeNet-300-100 is cut.", [""]),
    ],
)
def test_a_sentence_that_compares_or_counts_needs_evidence(source, needs):
    assert [sentence.needs for sentence in words.read([(0, source)])] == needs


@pytest.mark.parametrize(
    ("sentence", "claim", "found"),
    [
        ("The teacher beats the labels.", "The teacher loses to the labels by", "'beats' and 'loses'"),
        ("It is faster.", "Slower by", "'faster' and 'Slower'"),
        ("Accuracy falls.", "Accuracy rises, in points", "'falls' and 'rises'"),
        ("The teacher beats the labels.", "The teacher beats the labels: lower end", ""),
        ("It is higher with less.", "It is higher", ""),
        ("It gains more than it costs.", "It costs", ""),
        ("The difference is above zero.", "Lower end of the interval", ""),
    ],
)
def test_words_of_direction_agree_with_the_claim(sentence, claim, found):
    assert words.opposed(sentence, claim) == found


def test_formulas_are_found_if_they_relate_two_sides():
    source = "At $T = 4$ and $x > 0$, $p = q$ and $z/T$:\n\n$$s = \\sum_k\n p_k$$\n\n`$a = b$` costs"
    assert [formula.text for formula in words.formulas([(0, source)])] == ["s = \\sum_k p_k", "p = q"]


@pytest.mark.parametrize(
    ("expression", "value"), [("100 / 1000 == 0.1", True), ("2**3 < 7", False), ("0.8 * 1280 > 1e3", True)]
)
def test_arithmetic_is_worked_out(expression, value):
    assert evidence.value(expression) is value


@pytest.mark.parametrize("expression", ["__import__('os')", "a == b", "'a' == 'a'", "1 < 2 < 3"])
def test_what_is_no_arithmetic_is_not(expression):
    with pytest.raises((ValueError, KeyError)):
        evidence.value(expression)


# --- renewing ---------------------------------------------------------------------------------------------------------


def stored(*printed, said="A student that beats its labels."):
    text = "".join(f"✔ {line}\n" for line in printed)
    cell = nbformat.v4.new_code_cell("claim(…)", outputs=[nbformat.v4.new_output("stream", name="stdout", text=text)])
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(said), cell])


def test_a_reworded_claim_keeps_its_reason_and_a_new_one_is_measured():
    old = {"claim": [{"text": "Gain by the teacher, in points", "bound": "≥ 2", "measured": 9.0, "room": "it just is"}]}
    notebook = stored("The gain by the teacher, in points  [≥ 2]", "Files  [≤ 3]", "Time is shorter  [≥ 0]")
    values = [{"text": "Files", "bound": "≤ 3", "value": 2.51}, {"text": "Other", "bound": "≥ 0", "value": 7}]
    assert files.renewed(notebook, old, values)["claim"] == [
        {"text": "The gain by the teacher, in points", "bound": "≥ 2", "room": "it just is", "measured": 9.0},
        {"text": "Files", "bound": "≤ 3", "measured": 2.5},
        {"text": "Time is shorter", "bound": "≥ 0"},
    ]


def test_what_was_measured_changes_only_beyond_noise_and_never_misses_its_bound():
    notebook = stored("A  [≥ 2]", "B  [≥ 2]", "C  [≥ 2]", "D  [0.974 ± 0.001]")
    old = {"claim": [{"text": text, "bound": "≥ 2", "measured": 3.0} for text in "ABC"]}
    values = [{"text": text, "value": value, "bound": "≥ 2"} for text, value in zip("ABC", (3.3, 5.03, 1), strict=True)]
    values.append({"text": "D", "value": 0.97449, "bound": ""})
    assert [entry["measured"] for entry in files.renewed(notebook, old, values)["claim"]] == [3.0, 5.0, 3.0, 0.974]


def test_an_altered_sentence_keeps_its_evidence_and_is_marked():
    entry = {"says": "A student that beats its labels.", "claim": "Gain", "means": "> 0"}
    renewed = files.renewed(stored(said="A student that never beats its labels."), {"sentence": [entry]}, [])
    changed = {**entry, "says": "A student that never beats its labels.", "was": entry["says"]}
    assert renewed["sentence"] == [changed]


def test_what_is_written_is_read_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    binding = {
        "claim": [{"text": 'A "quoted" claim', "bound": "≥ 2", "measured": 2.5}],
        "sentence": [{"says": "It's $\\ln x$.", "by": [{"claim": "x", "means": "> 0"}, {"code": "'a' \"b\""}]}],
        "formula": [{"latex": "\\ln p'", "why": "names the slope only"}],
        "read": ["0123abcd 4567"],
        "ignored": ["89ab"],
    }
    files.binding_path("99").write_text(
        files.written("99", binding, {"It's $\\ln x$.": ["claim = 1"]}), encoding="utf-8"
    )
    assert files.load("99") == binding
