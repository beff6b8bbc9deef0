"""``python -m kdcourse judge`` and ``leaderboard``."""

import argparse
from pathlib import Path

from .._base.places import say
from ..data import data_dir
from .card import card
from .course import baselines
from .judging import REFERENCE, judge
from .sets import digits
from .tracks import TRACKS


def main(command: str, arguments: list[str]) -> int:
    """Run one of the two; 1 where a file could not be scored."""
    parser = argparse.ArgumentParser(prog=f"python -m kdcourse {command}", description=__doc__)
    if command == "judge":
        parser.add_argument("file", type=Path, help="an ONNX file (.onnx) or one of the coded format (.kdc)")
        parser.add_argument("--track", choices=TRACKS, help="show this track alone; default: all four")
    else:
        parser.add_argument("folder", type=Path, help="submissions, each a file, perhaps in a folder of its team")
        parser.add_argument("--to", type=Path, help="the page to write; default: leaderboard.html in the folder")
    parser.add_argument("--data", type=Path, help="folder with the full MNIST; default: $KDCOURSE_DATA, or data")
    parser.add_argument("--key", help="final digits are made with this secret of 12 characters or more")
    options = parser.parse_args(arguments)
    try:
        if not (data_dir() / REFERENCE).is_file():
            raise FileNotFoundError("the judge needs the course's data folder: run it in, or from, a checkout")
        on = digits(options.key, options.data)
        if command == "judge":
            entry = judge(options.file, on=on)
            say(card(entry, baselines(on) if entry.scores else [], on, options.track))
            return 0 if entry.scores else 1
        from .boards import leaderboard

        say(leaderboard(options.folder, options.to, on))
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"kdcourse: {getattr(error, 'strerror', None) or error}") from None
    return 0
