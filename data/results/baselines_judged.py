"""What the course's own files score in the capstone's judge: who judges a submission need not judge them again.

On the public digits alone, and with the full MNIST's 10,000 as final ones, which must be there. Times are not stored:
the judge measures them where it runs. A file that has changed gets a new record; delete the JSON to drop the old one.
"""

import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

from kdcourse.contest import Digits, judge
from kdcourse.contest.course import counted, files, identity
from kdcourse.contest.sets import EPSILON, ROBUST, digits
from kdcourse.data import full_dir

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")


RECIPE: dict[str, Any] = {"sets": ["public", "full"], "worse images": ROBUST, "epsilon": EPSILON}


@cache
def sets(name: str) -> Digits:
    return digits(folder=full_dir()) if name == "full" else digits(full=False)


def measure(file: str, sha256: str, on: str, digits: str) -> dict[str, Any]:
    """The scores of a file, and its logits of the public digits."""
    (path,) = [path for path in files() if path.name == file]
    entry = judge(path, on=sets(on))
    if entry.scores is None:
        raise ValueError(f"{path} is not scored: it {entry.refused}")
    return counted(entry.scores)


def wanted() -> list[dict[str, Any]]:
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files()}
    return [{"file": file, "sha256": sha256, "on": on, "digits": identity(sets(on))}
            for file, sha256 in hashes.items() for on in RECIPE["sets"]]  # fmt: skip


def main() -> None:
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
