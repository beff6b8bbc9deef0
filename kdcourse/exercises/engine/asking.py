"""Quick questions and predictions: one right choice, and for every choice why. ``ask("02.a")`` shows one."""

import re
import sys
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec

from ..._base.places import say

LETTERS = "ABCD"

QUIZ_COLOURS = {
    "--jq-multiple-choice-bg": "#005a8c",
    "--jq-correct-color": "#007a5a",
    "--jq-incorrect-color": "#b34700",
}
"""darker kin of the course's palette: white letters on them can be read"""

QUIZ_FOCUS = ".MCButton:focus-within { outline: 4px solid #E69F00; }"
QUIZ_MANNERS = """
// jupyterquiz would load a MathJax of its own where the page's has no typeset, as JupyterLab's has not
if (window.MathJax && !window.MathJax.typeset) window.MathJax.typeset = () => {};
// in a quiz the arrow keys choose; JupyterLab would go to another cell
document.addEventListener('focusin', event => {
  if (event.target.closest('.Quiz')) event.target.setAttribute('data-lm-suppress-shortcuts', 'true');
});
"""


@dataclass(frozen=True)
class Choice:
    """One answer to choose, and what to say of it."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with two to four choices, of which one is right."""

    id: str
    text: str
    choices: tuple[Choice, ...]

    @property
    def shuffled(self) -> tuple[Choice, ...]:
        """The choices as they are shown: the right one at a place that the id alone draws, the same every time."""
        right = next(choice for choice in self.choices if choice.right)
        others = [choice for choice in self.choices if not choice.right]
        others.insert(sha256(self.id.encode()).digest()[0] % len(self.choices), right)
        return tuple(others)


def plain(question: Question) -> str:
    """The question as text, for a page that runs no script."""
    lettered = [f"  {letter}  {choice.text}" for letter, choice in zip(LETTERS, question.shuffled, strict=False)]
    return "\n".join([f"Question {question.id}  {question.text}", *lettered])


def verdict(choice: Choice) -> str:
    """What is said of a choice; that it is right or not is a word too, not only a colour."""
    return f"{'Right.' if choice.right else 'No.'} {choice.why}"


def quiz(question: Question) -> list[dict[str, object]]:
    """The question in jupyterquiz's form."""
    answers = [{"answer": c.text, "correct": c.right, "feedback": verdict(c)} for c in question.shuffled]
    return [{"question": question.text, "type": "multiple_choice", "answer_cols": 1, "answers": answers}]


def in_a_terminal(question: Question) -> None:
    """Print the question; where somebody can type, take answers until one is right or empty."""
    say(plain(question))
    letters = LETTERS[: len(question.choices)]
    while sys.stdin is not None and sys.stdin.isatty():
        try:
            typed = input(f"Your answer ({', '.join(letters)}; Enter to go on): ").strip().upper()
        except EOFError:
            return
        if not typed:
            return
        if typed not in letters or len(typed) > 1:
            say(f"Type one of {', '.join(letters)}.")
            continue
        choice = question.shuffled[letters.index(typed)]
        say(verdict(choice))
        if choice.right:
            return


def show(question: Question) -> None:
    """Show the question as a quiz in a notebook; elsewhere, or without jupyterquiz, ask it in plain text."""
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel") or find_spec("jupyterquiz") is None:
        in_a_terminal(question)
        return
    from IPython.display import display
    from IPython.utils.capture import capture_output
    from jupyterquiz import display_quiz

    with capture_output() as shown:
        display_quiz(quiz(question), shuffle_answers=False, max_width=760, colors=QUIZ_COLOURS)
    page, script = (output.data for output in shown.outputs)
    # one output, with a plain form beside it; what changes in it is read aloud
    frame = f"<div aria-live='polite'>{page['text/html']}</div><style>{QUIZ_FOCUS}</style>"
    unconnected = re.sub(r"(?<=\.src = ')https?://[^']*", "data:,", script["application/javascript"])
    html = f"{frame}<script>{QUIZ_MANNERS}{unconnected}</script>"
    display({"text/html": html, "text/plain": plain(question)}, raw=True)
