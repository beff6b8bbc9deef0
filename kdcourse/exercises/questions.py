"""Quick questions and predictions: one right choice, and for every choice why. ``ask("02.a")`` shows one."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec

QUIZ_COLOURS = {
    "--jq-multiple-choice-bg": "#005a8c",
    "--jq-correct-color": "#007a5a",
    "--jq-incorrect-color": "#b34700",
}
"""darker kin of the course's palette: white letters on them can be read"""

QUIZ_FOCUS = ".MCButton:focus-within { outline: 4px solid #E69F00; }"
QUIZ_MANNERS = """
// jupyterquiz would fetch MathJax from the internet where the page's own has no typeset, as JupyterLab's has not
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


def plain(question: Question) -> str:
    """The question as text, for a page that runs no script."""
    lettered = [f"  {letter}  {choice.text}" for letter, choice in zip("ABCD", question.choices, strict=False)]
    return "\n".join([f"Question {question.id}  {question.text}", *lettered])


def quiz(question: Question) -> list[dict[str, object]]:
    """The question in jupyterquiz's form; the verdict is a word too, not only a colour."""
    answers = [
        {
            "answer": choice.text,
            "correct": choice.right,
            "feedback": f"{'Right.' if choice.right else 'No.'} {choice.why}",
        }
        for choice in question.choices
    ]
    return [{"question": question.text, "type": "multiple_choice", "answer_cols": 1, "answers": answers}]


def show(question: Question) -> None:
    """Show the question as a quiz in a notebook; elsewhere, or without jupyterquiz, print it."""
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel") or find_spec("jupyterquiz") is None:
        print(plain(question))
        return
    from IPython.display import display
    from IPython.utils.capture import capture_output
    from jupyterquiz import display_quiz

    with capture_output() as shown:
        display_quiz(quiz(question), shuffle_answers=False, max_width=760, colors=QUIZ_COLOURS)
    page, script = (output.data for output in shown.outputs)
    # one output, with a plain form beside it; what changes in it is read aloud
    frame = f"<div aria-live='polite'>{page['text/html']}</div><style>{QUIZ_FOCUS}</style>"
    html = f"{frame}<script>{QUIZ_MANNERS}{script['application/javascript']}</script>"
    display({"text/html": html, "text/plain": plain(question)}, raw=True)


QUESTIONS = (
    Question(
        "00.a",
        "There are 3,500 training images. What does a claim of at least 5,000 do?",
        (
            Choice("It prints ✘ and the notebook runs on", "A line nobody reads is no check: a claim raises."),
            Choice("It stops the notebook, naming sentence, value and bound", "See the next cell.", right=True),
            Choice("It prints ✔ with the measured 3,500", "A claim prints its bound, and only when it holds."),
        ),
    ),
    Question(
        "00.b",
        "The two students differ in one thing only, the teacher. What else must be the same for that to be true?",
        (
            Choice("The final training loss", "The losses differ in kind, so their values do not compare."),
            Choice("Initial weights, batch order, epochs, learning rate", "What is left is the teacher.", right=True),
            Choice("Only the number of epochs", "Another start or batch order alone moves accuracy, too."),
        ),
    ),
    Question(
        "01.a",
        "You tried 30 learning rates and kept the best on validation. Which number do you report?",
        (
            Choice("Its accuracy on validation", "It was chosen for being high there: luck is part of it."),
            Choice("The highest test accuracy of the 30", "Then the test split has done the choosing."),
            Choice("Its accuracy on test, measured once", "Test had no say in the choice.", right=True),
        ),
    ),
    Question(
        "01.b",
        "A network says 0.95 on 200 images, and 170 of these answers are right. The network is …",
        (
            Choice("too sure", "It is right in 85 % of the cases where it says 95 %.", right=True),
            Choice("not sure enough", "It says 95 % and is right in 85 %: less often than it says."),
            Choice("calibrated: it is mostly right", "Calibrated would be 190 right answers of 200."),
        ),
    ),
    Question(
        "02.a",
        "As T grows without bound, softmax(z / T) of five classes tends to …",
        (
            Choice("1 for the largest logit, 0 for the others", "That is the limit T → 0."),
            Choice("0.2 for every class", "All z / T tend to 0, and exp(0) is the same for all.", right=True),
            Choice("softmax(z), whatever T", "That is T = 1."),
        ),
    ),
    Question(
        "02.b",
        "The logits (5, 2, 1) become (105, 102, 101). Softened at T = 4, the probabilities …",
        (
            Choice("harden: the logits are larger", "Only differences of logits count, and these have not changed."),
            Choice("stay as they are", "exp(100 / T) stands above and below the line, and cancels.", right=True),
            Choice("soften: the ratios of the logits are smaller", "Ratios of logits mean nothing to softmax."),
        ),
    ),
    Question(
        "02.c",
        "Which of these can a temperature above 1 change?",
        (
            Choice("Which class is named", "Dividing by T > 0 keeps the order of the logits."),
            Choice("The accuracy", "It depends on the order alone, and that stays."),
            Choice("How much more probable the first class is than the second", "It is exp(Δz / T).", right=True),
        ),
    ),
    Question(
        "03.a",
        "KL(p ‖ q) is 0. What do you know?",
        (
            Choice("p and q name the same class", "True, but far more is: KL is 0 only where all is equal."),
            Choice("p and q are equal", "Gibbs' inequality: 0 only there.", right=True),
            Choice("p and q have the same entropy", "So have (0.9, 0.1) and (0.1, 0.9), and their KL is 1.76."),
        ),
    ),
    Question(
        "03.b",
        "At a high temperature you double T. The length of the gradient of KL, without the factor T², becomes about …",
        (
            Choice("half", "That is the 1 / T in front. The difference of probabilities shrinks as well."),
            Choice("a quarter", "1 / T from the chain rule, and 1 / T because both become flat.", right=True),
            Choice("what it was", "For that the loss needs the factor T²."),
        ),
    ),
    Question(
        "03.c",
        "F.kl_div(input, target) for distillation. What are input and target?",
        (
            Choice("student's log-probabilities, teacher's probabilities", "The function takes logarithms of neither.",
                   right=True),
            Choice("teacher's log-probabilities, student's probabilities", "Then it is KL(p_s ‖ p_t)."),
            Choice("student's probabilities, teacher's probabilities", "Then equal networks do not give 0."),
        ),
    ),
    Question(
        "04.a",
        "Under torch.no_grad(), in train mode, we only look at 100 images. Does the teacher change?",
        (
            Choice("No: without gradients nothing changes", "What batch norm remembers is no gradient."),
            Choice("Yes: batch norm's running statistics move", "In train mode every look updates them.", right=True),
            Choice("Only if an optimizer holds its parameters", "Running statistics are buffers: no optimizer needed."),
        ),
    ),
    Question(
        "04.b",
        "Five seeds, distilled minus alone, in points: +0.4, −0.3, +0.6, +0.1, −0.2. What may you say?",
        (
            Choice("Distillation helps: the mean is above 0", "By luck alone it is in half of all cases."),
            Choice("Distillation does nothing here", "The 95 % interval, −0.36 to 0.60, allows half a point, too."),
            Choice("Five seeds do not tell", "The 95 % interval, −0.36 to 0.60, holds gains and losses.", right=True),
        ),
    ),
    Question(
        "04.c",
        "Teacher logits were computed once, in the data set's order. The loader shuffles. What keeps them paired?",
        (
            Choice("The same seed for both", "Nothing was shuffled when the logits were computed."),
            Choice("Each image's row number", "Logits kept by row are looked up by row.", right=True),
            Choice("Computing them in batches of the same size", "The batches of an epoch hold other images."),
        ),
    ),
    Question(
        "05.a",
        "Nine tenths of a layer's weights are set to zero. They are stored as before, 32 bits each. The file is now …",
        (
            Choice("a tenth of the size", "Only if the zeros are not stored. Then their places must be."),
            Choice("as large as before", "A zero takes 32 bits, like any other number.", right=True),
            Choice("a little over a tenth: the places are stored, too", "Nothing has been told to store places."),
        ),
    ),
    Question(
        "05.b",
        "Adam has run for a while. Then weights are zeroed, and from now on their gradients, too. The weights …",
        (
            Choice("stay zero", "Adam moves by its average of past gradients, and that is not zero."),
            Choice("come back", "Adam's average of past gradients moves them on.", right=True),
            Choice("come back only with weight decay", "Decay multiplies: zero stays zero."),
        ),
    ),
    Question(
        "05.c",
        "A ticket learns as well as the dense network. Which control shows that its starting values are the reason?",
        (
            Choice("The same mask with other starting values", "Only the values differ.", right=True),
            Choice("A random mask with the same starting values", "That tests the mask."),
            Choice("The dense network with the same starting values", "That is what it is compared with already."),
        ),
    ),
    Question(
        "06.a",
        "Every layer keeps half of its channels. A convolution in the middle keeps which share of its work?",
        (
            Choice("a half", "Half of the filters, but each filter's inputs are halved as well."),
            Choice("a quarter", "Half of the filters times half of each filter's inputs.", right=True),
            Choice("an eighth", "Height and width of the picture have not changed."),
        ),
    ),
    Question(
        "06.b",
        "In train mode, one filter before a batch norm is multiplied by 10. Its channel after the norm is …",
        (
            Choice("ten times as large", "The norm divides by the standard deviation, which has grown tenfold, too."),
            Choice("a tenth", "The norm divides by ten what has been multiplied by ten."),
            Choice("what it was", "So the size of such a filter says nothing of its weight in the net.", right=True),
        ),
    ),
    Question(
        "06.c",
        "A pruned network, trained on for 15 epochs, beats one of its size trained 15 epochs from scratch. It shows …",
        (
            Choice("that pruning finds better networks", "It had the large network's epochs behind it as well."),
            Choice("little: the other had fewer epochs", "Give it all the epochs of both stages.", right=True),
            Choice("that small networks cannot be trained", "It was not given the time."),
        ),
    ),
    Question(
        "07.a",
        "A grid in 8 bits over the range from 0.3 to 1.0 is finer than one from 0 to 1.0. What speaks against it?",
        (
            Choice("Nothing, where no value lies below 0.3", "Padding and ReLU bring zeros, whatever the range says."),
            Choice("Zero has no code on it", "All zeros would come back as 0.3, all wrong the same way.", right=True),
            Choice("Its scale is no power of two", "Nor is the other one's, and nobody needs it."),
        ),
    ),
    Question(
        "07.b",
        "A weight lies beyond the end of the grid. Which gradient does it get, straight through?",
        (
            Choice("The gradient of its rounded value", "That is for weights inside the grid."),
            Choice("Zero: more or less makes no difference", "It is clipped to the end in any case.", right=True),
            Choice("Zero, like every rounded weight", "That is rounding's true derivative; then nothing would learn."),
        ),
    ),
    Question(
        "08.a",
        "A convolution on codes pads its border. The code of the real number 0 is 33. What goes into the border?",
        (
            Choice("0", "Code 0 stands for s · (0 - 33), a negative number: a dark frame around the image."),
            Choice("33", "Padding means the real number 0, and its code is the zero point.", right=True),
            Choice("Anything: the bias corrects it", "The bias is one number a channel; borders meet other weights."),
        ),
    ),
    Question(
        "08.b",
        "Every weight shrinks from four bytes to one. Why is the teacher's int8 file not four times smaller?",
        (
            Choice("Activations are stored, too", "They exist only while it runs; the file holds only their scales."),
            Choice("Graph, names, scales and 32-bit biases do not shrink", "With few weights they count.", right=True),
            Choice("The weights are stored as floats and rounded on loading", "They are stored as int8."),
        ),
    ),
    Question(
        "08.c",
        "Eager PyTorch in float takes 12 ms, onnxruntime in float 6 ms, in int8 4 ms. What does int8 bring?",
        (
            Choice("3 times", "12 / 4 changes runtime and numbers at once."),
            Choice("2 times", "12 / 6 is what the runtime brings, without any int8."),
            Choice("1.5 times", "6 / 4: the same runtime, only the numbers differ.", right=True),
        ),
    ),
    Question(
        "09.a",
        "Removing channels leaves a quarter of the file. int8 leaves a quarter of a file. Both together leave …",
        (
            Choice("an eighth", "4 and 4 make 8 only if you add. The second step takes a quarter of what is left."),
            Choice("a sixteenth", "Only if all of it shrank. Graph, names and scales are stored as before."),
            Choice("a little more than a sixteenth", "Shares multiply, and what does not shrink weighs more and more.",
                   right=True),
        ),
    ),
    Question(
        "09.b",
        "What you ship is an int8 file, run by onnxruntime. Which accuracy goes into the table?",
        (
            Choice("The float network's, before it was rounded", "Nobody will run that network."),
            Choice("That of PyTorch's simulated rounding", "It is near, but export, folding and kernels come after."),
            Choice("The file's own, run by onnxruntime", "Whatever went wrong on the way is in it.", right=True),
        ),
    ),
    Question(
        "09.c",
        "Two students train for 30 epochs each. For one of them a teacher runs on every batch. They had …",
        (
            Choice("equal compute: the epochs are equal", "In one of them every step runs two networks."),
            Choice("the same images, but not equal compute", "The teacher's runs, and its training, come on top.",
                   right=True),
            Choice("different images: the teacher brings its own", "It saw the same. It adds what it made of them."),
        ),
    ),
    Question(
        "10.a",
        "The distillation loss of two identical networks comes out as −2.1. Which cause fits?",
        (
            Choice("The factor T² is missing", "0 without T² is still 0."),
            Choice("Probabilities stand where log-probabilities belong", "Then it is no KL, and can be negative.",
                   right=True),
            Choice("The temperature is too high", "At any temperature the KL of equal networks is 0."),
        ),
    ),
    Question(
        "10.b",
        "A test holds the line torch.equal(expected, got) and nothing else. When does it fail?",
        (
            Choice("When the values differ", "Then it is False, and nobody looks: the assert is missing."),
            Choice("When the shapes differ", "torch.equal answers False to that, it does not raise."),
            Choice("Never, for two tensors", "Its value is thrown away.", right=True),
        ),
    ),
)  # fmt: skip
