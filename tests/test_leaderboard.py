"""The leaderboard's page: every submission has a line and none stops another; the next page compares itself."""

import html
import os
import re
from html.parser import HTMLParser

import pytest
import torch
from contesting import REFERENCE, few, renamed, tail, with_tail

from kdcourse.__main__ import main
from kdcourse.contest import boards, card, command, judge, page
from kdcourse.contest.boards import changes, last, leaderboard, safely, submissions
from kdcourse.contest.counts import Count
from kdcourse.contest.judging import Entry
from kdcourse.contest.trying import Limits

BOMB = "<script>alert(1)<|script>&amp;\u202e.onnx" if os.name != "nt" else "a&b.onnx"
LINEAR = with_tail(tail("Identity"))


class Reader(HTMLParser):
    """Which elements a page has, and the cells of its tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.alts, self.inside = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag
        self.alts += [value for name, value in attributes if name == "alt"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two teams, one name that is a program, a copy, the copy in another container, and a text."""
    monkeypatch.setattr(boards, "baselines", lambda on: [])
    place = tmp_path / "class"
    (place / "ada").mkdir(parents=True)
    (place / "ada" / "net.onnx").write_bytes(REFERENCE.read_bytes())
    (place / BOMB).write_bytes(LINEAR)
    (place / "copy.onnx").write_bytes(LINEAR)
    (place / "text.onnx").write_text("place 1", encoding="utf-8")
    (place / "README.md").write_text("read me", encoding="utf-8")
    (place / "other.onnx").write_bytes(renamed(LINEAR))
    return place


def test_the_page_shows_everyone_escaped_with_twins_and_compares_itself_with_the_last(folder, capsys):
    said = leaderboard(folder, None, few())
    text = (folder / "leaderboard.html").read_text(encoding="utf-8")
    found = Reader(text)
    assert "4 of 5 submissions scored; left alone: README.md." in said
    assert found.tags.count("script") == 1  # the stored entries, which are no program
    assert "<script>alert" not in text
    names = {row[0] for row in found.rows if row}
    assert {"ada/net.onnx", "copy.onnx", "text.onnx", "other.onnx"} <= names
    (first,) = {row[0] for row in found.rows if len(row) == 7} - {"ada/net.onnx", "copy.onnx", "other.onnx", "File"}
    assert f"<b>copy.onnx</b>: it has the same bytes as {html.escape(first)}." in text
    assert "<b>other.onnx</b>: it has other bytes, and the outputs of" in text
    assert any(row[0] == "text.onnx" and "neither a whole ONNX file" in row[1] for row in found.rows if row)
    (spent,) = (row for row in found.rows if row[0] == "ada/net.onnx" and len(row) == 4 and row[1] == "ONNX")
    assert re.fullmatch(r"weights and constants [\d,]+, graph [\d,]+", spent[3])
    assert "How far to trust" not in text  # there are no final digits
    (alt,) = found.alts
    assert "Undominated: " in alt
    assert "There is no earlier leaderboard" in text
    assert "prefers-color-scheme: dark" in text

    (folder / "copy.onnx").unlink()
    (folder / "other.onnx").write_bytes(REFERENCE.read_bytes())
    (folder / "new.kdc").write_bytes(b"KDC")
    leaderboard(folder, None, few())
    text = (folder / "leaderboard.html").read_text(encoding="utf-8")
    for sentence in ("New: new.kdc.", "Gone: copy.onnx.", "other.onnx is another file."):
        assert sentence in text
    assert "2 of 5: ada/net.onnx: scored" in capsys.readouterr().out


def test_a_judge_that_fails_costs_one_submission(folder, monkeypatch):
    def broken(path, **others):
        if path.name == "copy.onnx":
            raise RuntimeError("broken\nplace 1")
        return Entry(others["name"], "ONNX", 1, path.name, None, "is not measured here", [])

    monkeypatch.setattr(boards, "judge", broken)
    leaderboard(folder, None, few())
    found = Reader((folder / "leaderboard.html").read_text(encoding="utf-8"))
    said = {row[0]: row[1] for row in found.rows if len(row) == 2}
    assert said["copy.onnx"] == "It made the judge fail: RuntimeError: broken place 1."
    assert len(said) == 6  # the head, and five


def test_a_library_that_is_missing_is_not_a_submissions_fault(tmp_path, monkeypatch):
    def missing(path, **others):
        raise ImportError("onnxruntime is not installed")

    monkeypatch.setattr(boards, "judge", missing)
    with pytest.raises(ImportError):
        safely(tmp_path / "a.onnx", "a.onnx", few(), Limits())


def test_a_page_that_cannot_be_made_leaves_the_old_one(folder, monkeypatch):
    target = folder / "leaderboard.html"
    target.write_text("the old page", encoding="utf-8")
    monkeypatch.setattr(boards, "judge", lambda path, **others: Entry(others["name"], "", 0, "", None, "no", []))
    monkeypatch.setattr(page, "table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        leaderboard(folder, None, few())
    assert target.read_text(encoding="utf-8") == "the old page"
    assert not [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_submissions_are_files_of_the_folder_or_of_a_teams_and_links_to_folders_are_not_followed(folder, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "secret.onnx").touch()
    (folder / "ada" / "deep").mkdir()
    (folder / "ada" / "deep" / "no.onnx").touch()
    (folder / ".hidden.onnx").touch()
    if os.name != "nt":
        (folder / "link").symlink_to(tmp_path / "far")
    files, others = submissions(folder)
    assert len(files) == 5
    assert not [name for name in files if "secret" in name or "no.onnx" in name or "hidden" in name]
    assert {"README.md", "ada/deep"} <= set(others)


def test_a_teams_folder_that_cannot_be_read_costs_this_team_alone(folder, monkeypatch):
    def scan(path, real=os.scandir):
        if os.path.basename(path) == "ada":
            raise PermissionError(13, "Permission denied")
        return real(path)

    before = submissions(folder)[0]
    monkeypatch.setattr(os, "scandir", scan)
    files, others = submissions(folder)
    assert set(files) == {name for name in before if not name.startswith("ada/")} < set(before)
    assert "ada" in others


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_look_alike_are_told_apart(tmp_path):
    for name in (b"a\x01.onnx", b"a\x02.onnx", b"\xff.onnx"):
        (tmp_path / os.fsdecode(name)).touch()
    files, _ = submissions(tmp_path)
    assert sorted(files) == [".onnx", "a .onnx", "a .onnx (2)"]


STATE = {"on": "", "entries": {"a": {"digest": "1", "places": {"smallest": 3}}}}


def test_what_has_changed_is_said():
    now = {"on": "", "entries": {"a": {"digest": "1", "places": {"smallest": 2}}}}
    assert changes(STATE, STATE) == ["Nothing has changed since the last time."]
    assert changes(STATE, now) == ["a: place 3 → place 2 (smallest file at 98 % or more)."]
    assert changes({**STATE, "on": "x"}, STATE) == ["The final images are others than last time."]


@pytest.mark.parametrize(
    "stored", ["", "{}", "[1]", '{"entries": {"a": 1}}', '{"entries": {"a": {"places": 1}}, "on": ""}', "{", "[" * 9999]
)
def test_an_earlier_page_that_was_altered_is_none(stored, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(f'<script type="application/json" id="entries">{stored}</script>', encoding="utf-8")
    assert last(path) is None
    path.write_bytes(b"\xff\xfe")
    assert last(path) is None
    assert last(tmp_path / "nothing.html") is None


def test_what_a_page_stores_is_read_again(tmp_path):
    state = {"on": "", "entries": {"</script><b>": {"digest": "1", "places": {"smallest": 3}}}}
    text = page.page("class", [], [], few(), [], state)
    assert text.count("</script>") == 1
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert last(tmp_path / "page.html") == state


# --- the command line -------------------------------------------------------------------------------------------------


def called(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["kdcourse", *map(str, arguments)])
    return main()


def test_the_card_has_every_measure_with_its_interval_and_a_place(folder, monkeypatch, capsys):
    monkeypatch.setattr(command, "digits", lambda key, data: few())
    course = [judge(REFERENCE, on=few())._replace(name="model.onnx (the course's)", of_course=True)]
    monkeypatch.setattr(command, "baselines", lambda on: course)
    assert called(monkeypatch, "judge", folder / "other.onnx") == 0
    said = capsys.readouterr().out
    assert f"{len(renamed(LINEAR)):,} bytes" in said
    assert re.search(r"spent on +weights and constants 31,\d\d\d, graph \d+\n", said)
    assert len(re.findall(r"\d+\.\d+ % \(\d+\.\d+ to \d+\.\d+\)", said)) >= 3
    assert re.search(r"one image alone +\S+ ms \(\S+ to \S+\) in onnxruntime", said)
    assert re.search(r"most accurate under 8 KB +takes no part: it has 8,192 bytes or more", said)
    assert "upper bound of its robustness" in " ".join(said.split())
    assert "No final score" in said
    assert called(monkeypatch, "judge", folder / "other.onnx", "--track", "robust") == 0
    said = capsys.readouterr().out
    assert "most robust under 30 KB" in said
    assert "8 KB" not in said
    assert called(monkeypatch, "judge", folder / "text.onnx") == 1
    assert capsys.readouterr().out == (
        "text.onnx is not scored: it is neither a whole ONNX file nor one of the coded format.\n"
    )


def test_faults_of_the_call_end_it_in_a_sentence(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("kdcourse.contest.sets.worse", lambda split, seed: {"clean": split.images})
    for arguments, why in (
        (("leaderboard", tmp_path / "none"), "is not a folder"),
        (("leaderboard", folder / "ada", "--key", "short"), "12 characters or more"),
        (("judge", REFERENCE, "--data", tmp_path), "full MNIST is not in"),
    ):
        with pytest.raises(SystemExit, match=why):
            called(monkeypatch, *arguments)
    (folder / "ada" / "net.onnx").unlink()
    with pytest.raises(SystemExit, match="there is no submission in"):
        called(monkeypatch, "leaderboard", folder / "ada")


def test_without_a_checkout_the_judge_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "data_dir", lambda: tmp_path)
    with pytest.raises(SystemExit, match="needs the course's data folder"):
        called(monkeypatch, "judge", REFERENCE)


@pytest.mark.parametrize(
    ("final", "learned", "says"),
    [
        ((960, 1000), (970, 1000), "No sign of final digits"),
        ((990, 1000), (950, 1000), "better on keyed test digits than on keyed training digits"),
        ((960, 1000), (970, 1000), "higher than the final one: keyed digits are bent, and harder for everyone."),
        ((960, 1000), None, "higher than the final one: ask whether it was chosen, or trained, on the public digits."),
        ((990, 1000), None, "public score is not clearly higher"),
    ],
)
def test_the_card_says_how_far_to_trust_the_public_score(final, learned, says):
    one = judge(REFERENCE, on=few())
    scores = one.scores._replace(public=Count(495, 500), final=Count(*final), learned=learned and Count(*learned))
    on = few()._replace(final=few().public, final_name="1,000 digits by key 12345678, embedded test digits")
    on = on._replace(learned=few().public if learned else None)
    said = " ".join(card.card(one._replace(scores=scores), [], on).split())
    assert says in said
    assert ("keyed test minus keyed train" in said) == bool(learned)
    assert f"public minus final {100 * (0.99 - final[0] / 1000):+.2f} points (" in said
    assert "final: 1,000 digits by key 12345678 " in said
    assert "Final images: 1,000 digits by key 12345678, embedded test digits." in said
    assert ("96 % of the keyed digits stand for 98 %" in said) == bool(learned)


def test_the_page_has_the_gaps_where_there_are_final_digits():
    split = few().public
    on = few()._replace(final=split, final_name="x")
    keyed = on._replace(learned=split.take(torch.arange(30)))
    for sets, wanted in ((on, ["Public minus final"]), (keyed, ["Public minus final", "Keyed training digits",
                                                                "Keyed test minus keyed train"])):  # fmt: skip
        entry = judge(REFERENCE, on=sets)
        found = Reader("".join(page.trust([entry], sets)))
        assert found.rows[0][1:] == wanted
        assert found.rows[1][1].startswith("+0.00\xa0points (")
        assert re.search(r"\([-+.\d]+\xa0to\xa0[-+.\d]+\)", found.rows[1][1])  # on one line
        assert len(found.rows[1]) == len(found.rows[0])
        if sets.learned:
            assert found.rows[1][2].replace("\xa0", " ") == card.percent(entry.scores.learned)


def test_a_twin_of_the_courses_own_file_is_named(monkeypatch):
    one = judge(REFERENCE, on=few())
    said = card.card(one, [one._replace(name="model.onnx (the course's)", of_course=True)], few())
    assert "It has the same bytes as model.onnx (the course's)." in said


@pytest.mark.slow
def test_the_courses_own_files_are_judged_on_all_digits_within_the_limit(capsys, monkeypatch):
    assert called(monkeypatch, "judge", REFERENCE, "--key", "a long enough key") == 0
    said = capsys.readouterr().out
    assert "final: 1,000 digits by key" in said
    assert "keyed test minus keyed train" in said
    assert said.count("attacked") >= 2
