"""The notebooks in JupyterLab as a learner has them: run, looked at, and used by keyboard and by pointer."""

import json
import os
import re
from urllib.parse import urlsplit

import numpy as np
import pytest

if os.environ.get("KDCOURSE_BROWSER") != "1":
    pytest.skip("`make browser` runs these (KDCOURSE_BROWSER=1)", allow_module_level=True)

import torch
from conftest import ROOT
from safetensors.numpy import load_file

from kdcourse.data import data_dir, load_mnist
from kdcourse.models import load_model, mlp
from kdcourse.training import fit, predict

pytestmark = pytest.mark.browser
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
# JupyterLab shows tracebacks under this type, too
FAULTS = '[data-mime-type="application/vnd.jupyter.stderr"]'


def on(number):
    """Run a test on the one notebook with this number."""
    path = next(path for path in NOTEBOOKS if path.name.startswith(number))
    return pytest.mark.parametrize("ran", [path], indirect=True, ids=[path.stem], scope="session")


every_notebook = pytest.mark.parametrize(
    "ran", NOTEBOOKS, indirect=True, ids=[path.stem for path in NOTEBOOKS], scope="session"
)

# --- every notebook ---------------------------------------------------------------------------------------------------


@every_notebook
def test_runs_without_a_fault(ran):
    page = ran.page
    assert page.locator(FAULTS).all_inner_texts() == []
    assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()
    assert ran.uncaught == []
    assert "✔" in "".join(page.locator(".jp-OutputArea-output").all_inner_texts()), "claims are shown"


def outside(ran):
    """What the page has asked for so far that is not of its own JupyterLab."""
    own = f"127.0.0.1:{ran.lab.port}"
    return [url for url in ran.asked if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own]


@every_notebook
def test_no_request_leaves_the_machine(ran):
    assert len(ran.asked) > 10, "requests are seen at all"
    assert outside(ran) == []


FIGURES = """() => [...document.querySelectorAll('.jp-OutputArea-output img')].map(image => {
  image.scrollIntoView({block: 'center'});
  const box = image.getBoundingClientRect(), hidden = [];
  for (let outer = image.parentElement; !outer.matches('.jp-Notebook'); outer = outer.parentElement) {
    const edge = outer.getBoundingClientRect();
    const past = Math.max(edge.left - box.left, box.right - edge.right, edge.top - box.top, box.bottom - edge.bottom);
    if (getComputedStyle(outer).overflow !== 'visible' && past > 1) hidden.push(outer.className);
  }
  const canvas = document.createElement('canvas');
  const [width, height] = [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  const strips = [[0, 0, width, 1], [0, height - 1, width, 1], [0, 0, 1, height], [width - 1, 0, 1, height]];
  const white = width > 0 && strips.every(strip => context.getImageData(...strip).data.every(value => value > 250));
  const whole = [box.width, box.height, width, height];
  return {alt: image.alt, whole, hidden, white, past: box.right - document.documentElement.clientWidth};
})"""


@every_notebook
def test_no_figure_is_cut_off(ran):
    figures = ran.page.evaluate(FIGURES)
    assert figures
    for figure in figures:
        shown_width, shown_height, width, height = figure["whole"]
        assert width > 0, f"not drawn: {figure['alt']}"
        assert shown_width / shown_height == pytest.approx(width / height, rel=0.02), f"squeezed: {figure['alt']}"
        assert figure["hidden"] == [], f"behind the edge of its frame: {figure['alt']}"
        assert figure["past"] <= 0, f"past the edge of the window: {figure['alt']}"
        assert figure["white"], f"ink on the outermost pixels, something may be cut: {figure['alt']}"


# --- explorers --------------------------------------------------------------------------------------------------------


class Explorer:
    """The sliders, numbers and picture of the one explorer in a notebook."""

    def __init__(self, ran):
        self.ran, self.page = ran, ran.page
        self.box = self.page.locator(".widget-vbox", has=self.page.locator("[aria-live='polite']"))
        self.says = self.box.locator("p[aria-live='polite']")
        self.picture = self.box.locator("img")
        self.box.scroll_into_view_if_needed()

    def slider(self, name):
        label = self.page.locator(".widget-label", has_text=re.compile(f"^{name}$"))
        return self.box.locator(".widget-slider", has=label)

    def shown(self, name):
        """The value beside the slider."""
        return float(self.slider(name).locator(".widget-readout").inner_text().replace("\N{MINUS SIGN}", "-"))

    def press(self, name, key, times=1):
        """Move the slider as one without a mouse does."""
        before = self.picture.get_attribute("src")
        self.slider(name).locator("[role=slider]").focus()
        for _ in range(times):
            self.page.keyboard.press(key)
        self.settle(before)

    def drag(self, name, share):
        """Take the handle with the pointer and let it go at this share of the track's length."""
        before = self.picture.get_attribute("src")
        self.box.scroll_into_view_if_needed()
        handle = self.slider(name).locator("[role=slider]").bounding_box()
        track = self.slider(name).locator(".noUi-base").bounding_box()
        self.page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
        self.page.mouse.down()
        self.page.mouse.move(track["x"] + share * track["width"], track["y"] + track["height"] / 2, steps=5)
        self.page.mouse.up()
        self.settle(before)

    def settle(self, before):
        """Wait until another picture is there and the kernel has drawn the last of them."""
        self.page.wait_for_function(
            "([box, before]) => box.querySelector('img').src !== before", arg=[self.box.element_handle(), before]
        )
        seen = None
        while seen != (seen := self.picture.get_attribute("src")):
            self.page.wait_for_timeout(500)
            self.ran.wait_until_idle(30)

    def numbers(self):
        """The numbers it says, which are also those of its picture's alt text."""
        text = self.says.inner_text()
        assert text in self.picture.get_attribute("alt")
        return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


def softened(logits, temperature):
    weights = np.exp((logits - logits.max()) / temperature)
    p = weights / weights.sum()
    return -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(), p.max()


@on("02")
def test_temperature_explorer(ran):
    images = load_mnist().train.images[[985, 1043, 996, 2466, 2658, 2644]]
    logits = predict(load_model(data_dir() / "teacher.safetensors"), images).double().numpy()
    explorer = Explorer(ran)

    def agrees(image, temperature):
        nats, top = softened(logits[image], temperature)
        assert explorer.numbers() == pytest.approx([temperature, nats, top], abs=0.006)

    agrees(0, 1.0)
    explorer.press("T", "ArrowRight", times=8)
    agrees(0, 10**0.4)
    explorer.press("image", "ArrowRight", times=3)
    assert explorer.shown("image") == 3
    agrees(3, 10**0.4)
    explorer.press("T", "ArrowLeft", times=10)
    agrees(3, 10**-0.1)
    explorer.drag("T", 2 / 3)
    assert explorer.shown("T") == pytest.approx(10, rel=0.3)
    agrees(3, 10 ** (round(20 * np.log10(explorer.shown("T"))) / 20))
    explorer.drag("image", 1.0)
    assert explorer.shown("image") == 5
    agrees(5, 10 ** (round(20 * np.log10(explorer.shown("T"))) / 20))


def two_divergences(mean, width):
    """In nats, on a grid twice as fine as the notebook's; both densities have all their mass on it."""
    x = np.linspace(-8, 8, 1601)
    step = x[1] - x[0]

    def bell(mean, width):
        density = np.exp(-(((x - mean) / width) ** 2) / 2)
        return density / (density.sum() * step)

    p, q = 0.6 * bell(-2, 0.7) + 0.4 * bell(2.5, 0.8), bell(mean, width)
    return [(p * (np.log(p) - np.log(q))).sum() * step, (q * (np.log(q) - np.log(p))).sum() * step]


@on("03")
def test_kl_explorer(ran):
    explorer = Explorer(ran)

    def agrees(mean, width):
        assert (explorer.shown("mean"), explorer.shown("width")) == pytest.approx((mean, width))
        assert explorer.numbers() == pytest.approx(two_divergences(mean, width), rel=2e-3, abs=2e-3)

    agrees(0, 1)
    explorer.press("mean", "ArrowLeft", times=5)
    agrees(-0.5, 1)
    explorer.press("width", "ArrowRight", times=4)
    agrees(-0.5, 1.4)
    explorer.drag("width", 0.5)
    assert explorer.shown("width") == pytest.approx(2.15, abs=0.15)
    agrees(-0.5, explorer.shown("width"))
    explorer.drag("mean", 0.7)
    assert explorer.shown("mean") == pytest.approx(2, abs=0.15)
    agrees(explorer.shown("mean"), explorer.shown("width"))


def pruned_by_hand(layers, split, share):
    """Threshold of the smallest weights, and the accuracy of the two-layer network without them."""
    sizes = np.sort(np.concatenate([np.abs(weight).ravel() for weight, _ in layers]))
    count = round(share * len(sizes))
    threshold = sizes[count - 1] if count else 0.0
    signal = split.images.flatten(1).numpy()
    for weight, bias in layers:
        kept = np.where(np.abs(weight) > threshold, weight, 0)
        signal = np.maximum(signal, 0) @ kept.T + bias  # pixels are not negative: the first ReLU does nothing
    return threshold, (signal.argmax(axis=1) == split.labels.numpy()).mean()


@pytest.fixture(scope="module")
def dense():
    """The layers of notebook 05's network, trained here as there."""
    digits, network, threads = load_mnist(), mlp((128,), seed=0), torch.get_num_threads()
    torch.set_num_threads(1)
    fit(network, digits.train, epochs=75, seed=0)
    torch.set_num_threads(threads)
    layers = network.linear1, network.classes
    return [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]


@on("05")
def test_threshold_explorer(ran, dense):
    validation, explorer = load_mnist().validation, Explorer(ran)

    def agrees(share):
        assert explorer.shown("pruned") == pytest.approx(share)
        percent, threshold, right = explorer.numbers()
        expected_threshold, expected_right = pruned_by_hand(dense, validation, share)
        assert percent == pytest.approx(100 * share)
        assert threshold == pytest.approx(expected_threshold, abs=6e-4)
        assert right == pytest.approx(expected_right, abs=0.0021)  # one image of 500 more or less

    agrees(0.5)
    explorer.press("pruned", "ArrowRight", times=4)
    agrees(0.54)
    explorer.press("pruned", "Home")
    agrees(0)
    explorer.drag("pruned", 0.9)
    assert explorer.shown("pruned") == pytest.approx(0.89, abs=0.03)
    agrees(explorer.shown("pruned"))


@on("07")
def test_bits_explorer(ran):
    weight = load_file(data_dir() / "teacher.safetensors")["conv3.weight"].astype(np.float64)
    explorer = Explorer(ran)

    def agrees(bits, share):
        assert (explorer.shown("bits"), explorer.shown("range")) == pytest.approx((bits, share))
        end, top = share * np.abs(weight).max(), 2 ** (bits - 1) - 1
        rounded = np.clip(np.round(weight / (end / top)), -top, top) * (end / top)
        decibels = 10 * np.log10((weight**2).sum() / ((weight - rounded) ** 2).sum())
        clipped = 100 * (np.abs(weight) > end * (1 + 1e-6)).mean()
        said = explorer.numbers()
        assert said[0] == bits
        assert said[1:] == pytest.approx([end, decibels, clipped], abs=0.051)
        assert said[2] == pytest.approx(decibels, abs=0.02)

    agrees(4, 1)
    explorer.press("bits", "ArrowRight", times=2)
    agrees(6, 1)
    explorer.press("range", "ArrowLeft", times=6)
    agrees(6, 0.7)
    explorer.drag("bits", 0.0)
    agrees(2, 0.7)
    explorer.drag("range", 0.45)
    assert explorer.shown("range") == pytest.approx(0.5, abs=0.1)
    agrees(2, explorer.shown("range"))


def undominated(cost, seed, stages):
    """How many networks of these stages (and this seed, or all) have the cost, and those that none other beats."""
    records = json.loads((ROOT / "data/results/pipeline.json").read_text())["records"]
    (times,) = (record["milliseconds"] for record in records if record.get("timed") == "256")
    called = {"int8, trained through": "int8, QAT", "int8, calibrated": "int8, PTQ", "quantize-aware only": "QAT only"}
    measured = {}
    for record in records:
        stage = called.get(record.get("stage"), record.get("stage"))
        if stage in stages and seed in (None, record["seed"]):
            shape = "int8 " + "-".join(map(str, record["channels"]))
            record["milliseconds"] = times[shape if stage.startswith("int8") else stage][0]
            name = called.get(record["arm"], record["arm"]) if "int8" in stage else stage  # as the notebook calls them
            measured.setdefault((name, stage), []).append((record["test"], record[cost]))
    means = {name: np.round(np.mean(seeds, axis=0), 9) for name, seeds in measured.items()}
    gain, price = np.array([*means.values(), (0, 0)]).T
    better = (gain[:-1] >= gain[:-1, None]) & (price[:-1] <= price[:-1, None])
    better &= (gain[:-1] > gain[:-1, None]) | (price[:-1] < price[:-1, None])
    return len(means), {name: means[name] for name, beaten in zip(means, better.any(axis=1), strict=True) if not beaten}


@on("09")
def test_pareto_explorer(ran):
    explorer = Explorer(ran)
    buttons = {name: explorer.box.get_by_role("button", name=name, exact=True)
               for name in ("bytes", "milliseconds", "mean of all", "seed 0", "seed 1")}  # fmt: skip
    stages = [box.inner_text().strip() for box in explorer.box.locator(".widget-checkbox").all()]
    boxes = {stage: explorer.box.get_by_label(stage, exact=True) for stage in stages}
    ticked = set(stages)
    assert len(stages) > 2
    assert all(box.is_checked() for box in boxes.values())

    def agrees(cost, seed):
        count, best = undominated(cost, seed, ticked)
        text = explorer.says.inner_text()
        if not count:
            assert text == f"No network to show: tick a stage whose {cost} were measured."
            assert explorer.picture.count() == 0
            return
        head, names = text.split(": ", 1)
        assert [int(number) for number in re.findall(r"(\d+) (?:network|undominated)", head)] == [count, len(best)]
        said = re.findall(r"(?:^|; )(.+?) \(([^()]*)\): (\d\.\d{4}) at ([\d,.e+-]+) (?:bytes|ms)", names)
        assert {(arm, stage) for arm, stage, *_ in said} == best.keys()
        for arm, stage, right, price in said:
            test, expected = best[arm, stage]
            assert float(right) == pytest.approx(test, abs=6e-5)
            # whole bytes, or four digits
            assert float(price.replace(",", "")) == pytest.approx(expected, rel=6e-4, abs=0.51 * (cost == "bytes"))
        assert text in explorer.picture.get_attribute("alt")

    def after(act):
        before = explorer.says.inner_text()
        act()
        ran.page.wait_for_function(
            "([says, before]) => says.querySelector('p').innerText !== before",
            arg=[explorer.says.locator("..").element_handle(), before],
        )
        ran.wait_until_idle(30)

    def press(control, key):
        control.focus()
        after(lambda: ran.page.keyboard.press(key))

    agrees("bytes", None)
    press(buttons["seed 0"], "Space")
    agrees("bytes", 0)
    press(buttons["seed 1"], "Enter")
    agrees("bytes", 1)
    press(buttons["milliseconds"], "Space")
    agrees("milliseconds", 1)
    after(buttons["bytes"].click)
    agrees("bytes", 1)
    after(buttons["mean of all"].click)
    agrees("bytes", None)
    first, *others = stages
    ticked.remove(first)
    press(boxes[first], "Space")
    agrees("bytes", None)
    for stage in others:
        ticked.remove(stage)
        after(lambda stage=stage: boxes[stage].click())
        agrees("bytes", None)
    ticked.add(first)
    after(lambda: boxes[first].click())
    agrees("bytes", None)


# --- exercises and questions ------------------------------------------------------------------------------------------


def type_answer(ran, *lines):
    """Write the answer to 02.1 line by line, run it and the check below it, and read what the check says."""
    ran.cell("def my_soften").locator(".cm-content").click()
    keys = ran.page.keyboard
    keys.press("ControlOrMeta+a")
    for number, line in enumerate(lines):
        keys.press("Enter") if number else None
        keys.type(line)
    check = ran.cell('check("02.1"')
    before = check.locator(".jp-InputPrompt").inner_text()
    keys.press("Shift+Enter")
    keys.press("Shift+Enter")
    ran.page.wait_for_function(
        "([prompt, before]) => prompt.innerText !== before && /\\d/.test(prompt.innerText)",
        arg=[check.locator(".jp-InputPrompt").element_handle(), before],
    )
    ran.wait_until_idle(30)
    return check.locator(".jp-OutputArea").inner_text()


@on("02")
def test_a_wrong_and_a_right_answer_are_diagnosed(ran):
    assert "– 02.1" in ran.cell('check("02.1"').locator(".jp-OutputArea").inner_text()
    progress = ran.lab.home / "progress.json"
    head = "def my_soften(logits, temperature):"
    said = type_answer(ran, head, "z = logits * temperature", "return F.softmax(z, dim=-1)")
    assert said.startswith("✘ 02.1")
    assert "you multiply by the temperature" in said
    assert 'hint("02.1")' in said
    assert json.loads(progress.read_text())["02.1"] == {"tries": 1, "solved": False}
    said = type_answer(ran, head, "z = logits / temperature", "return F.softmax(z, dim=-1)")
    assert said.startswith("✔ 02.1")
    assert "✘" not in said
    assert json.loads(progress.read_text())["02.1"] == {"tries": 2, "solved": True}


@on("02")
def test_a_quick_question_is_answered_by_keyboard(ran):
    cell = ran.cell('ask("02.a")')
    quiz = cell.locator(".Quiz")
    quiz.scroll_into_view_if_needed()
    keys = ran.page.keyboard
    quiz.locator("input").first.focus()
    verdict = quiz.locator(".Feedback")
    for key, words in (("Space", "Right. All z / T tend to 0"), ("ArrowDown", "No. That is the limit T → 0."),
                       ("ArrowDown", "No. That is T = 1."), ("ArrowUp", "No. That is the limit T → 0.")):  # fmt: skip
        keys.press(key)
        ran.page.wait_for_function(
            "([verdict, words]) => verdict.innerText.includes(words)", arg=[verdict.element_handle(), words]
        )
        assert quiz.locator("input:focus").count() == 1, "the arrow keys stay in the quiz"
    ran.page.wait_for_timeout(1000)
    assert outside(ran) == []


@on("07")
def test_an_explorer_works_again_after_the_kernel_was_restarted(ran):
    ran.menu("Kernel", "Restart Kernel…")
    ran.page.get_by_role("button", name="Confirm Kernel Restart").click()
    ran.wait_until_idle(60)
    ran.run()
    explorer = Explorer(ran)
    before = explorer.numbers()
    explorer.press("bits", "ArrowRight")
    assert explorer.numbers()[0] == before[0] + 1
    explorer.press("bits", "ArrowLeft")
    assert explorer.numbers() == before
