"""Every misconception that is a wrong variant of a `kdcourse` function is put in its place: a test must fail.

A test counts as its killer only if the exercise's right answer, put in the same place, passes it: so the test fails
for the mistake and for nothing else. A mutant that no test kills fails here. ``-s`` prints the table.
"""

import importlib
import importlib.abc
import importlib.util
import inspect
import itertools
import sys
from functools import cache
from pathlib import Path

import pytest
import test_features
import test_loss_invariances
import test_losses
import test_metrics
import test_pruning
import test_training
import test_training_networks
import test_training_on_loaders
import test_training_steps

import kdcourse
from kdcourse import training
from kdcourse.exercises import exercises

TESTS_OF = {
    "kdcourse.losses": (test_losses, test_loss_invariances),
    "kdcourse.metrics": (test_metrics,),
    "kdcourse.pruning": (test_pruning,),
}
TRAINING_TESTS = [test_training, test_training_on_loaders, test_training_networks, test_training_steps]
MUTANTS = [(e, m) for e in exercises.values() for m in e.misconceptions if m.replaces]


def home_and_name(dotted):
    module, _, name = dotted.rpartition(".")
    return importlib.import_module(module), name


@cache
def calls(*modules):
    """Every (test, arguments) of test modules that needs no fixture; the quick ones first."""
    found = []
    for test in itertools.chain(*(vars(module).values() for module in modules)):
        if not inspect.isfunction(test) or not test.__name__.startswith("test_"):
            continue
        marks = [mark.args[:2] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        for chosen in itertools.product(*(values for _, values in marks)):
            arguments = {}
            for (names, _), value in zip(marks, chosen, strict=True):
                names = names.replace(" ", "").split(",") if isinstance(names, str) else list(names)
                value = getattr(value, "values", value) if type(value).__name__ == "ParameterSet" else value
                arguments |= dict(zip(names, value if len(names) > 1 or is_set(chosen) else [value], strict=True))
            if set(inspect.signature(test).parameters) <= set(arguments):
                found.append((test, arguments))
    return sorted(found, key=lambda call: getattr(call[0], "is_hypothesis_test", False))


def is_set(chosen):
    return any(type(value).__name__ == "ParameterSet" for value in chosen)


def fails(test, arguments, home, name, answer):
    """Whether the test's own assertion fails with ``answer`` in the function's place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, name, answer)
        try:
            test(**arguments)
        except AssertionError:
            return True
        except BaseException as error:  # a refusal that is missing: no proof of this mistake
            if isinstance(error, KeyboardInterrupt):
                raise
            return None
    return False


def killer(exercise, misconception):
    module, name = misconception.replaces.rpartition(".")[0], misconception.replaces.rpartition(".")[2]
    home, name = home_and_name(misconception.replaces)
    for test, arguments in calls(*TESTS_OF[module]):
        if arguments.get("name", name) != name:
            continue
        if fails(test, arguments, home, name, misconception.wrong) and (
            fails(test, arguments, home, name, exercise.reference) is False
        ):
            return test.__name__
    return None


@pytest.mark.parametrize(("exercise", "misconception"), MUTANTS, ids=lambda part: getattr(part, "id", ""))
def test_a_misconception_in_place_of_the_function_is_killed_by_a_test(exercise, misconception):
    found = killer(exercise, misconception)
    assert found, f"{misconception.replaces} may be replaced by {misconception.wrong.__name__}, and no test fails"
    function = misconception.replaces.rpartition(".")[2]
    print(f"\n{function:<27}{misconception.wrong.__name__:<38}killed by {found}", end="")


def test_the_gate_lets_the_right_answer_through():
    for exercise in {id(e): e for e, _ in MUTANTS}.values():
        home, name = home_and_name(next(m.replaces for m in exercise.misconceptions if m.replaces))
        module = home.__name__
        own = [(t, a) for t, a in calls(*TESTS_OF[module]) if a.get("name", name) == name]
        results = (fails(test, arguments, home, name, exercise.reference) for test, arguments in own)
        passed = itertools.islice((result for result in results if result is False), 10)
        assert len(list(passed)) == 10, exercise.id


def test_every_variant_of_a_function_under_test_is_here():
    assert len(MUTANTS) >= 40
    assert {m.replaces for _, m in MUTANTS} >= {
        "kdcourse.losses.kd_loss", "kdcourse.losses.distillation_loss", "kdcourse.losses.logit_mse_loss",
        "kdcourse.losses.reverse_kd_loss", "kdcourse.metrics.entropy", "kdcourse.metrics.accuracy",
        "kdcourse.metrics.expected_calibration_error", "kdcourse.pruning.magnitude_mask",
    }  # fmt: skip


# The mistakes of training have no function of their own shape to replace: they are written into the source.
TRAINING_MUTANTS = {
    "teacher left in train mode": ("with nullcontext() if shared else in_eval_mode(teacher):", "with nullcontext():"),
    "teacher receives gradients": ("@torch.no_grad()\n    def of_batch", "def of_batch"),
    "modes not restored": ("        setattr(part, attribute, before)", "        pass"),
    "student left in eval mode": ("student.train()", "student.training"),
    "a frozen part put in train mode": ("part.training = False", "part.training"),
    "kept logits under shuffling": ("kept[batch.rows]", "kept[: batch.size]"),
    "the student sees other images than the teacher": (
        "call(student, batch.inputs)",
        "call(student, batch.inputs if augment is None else augment(batch.inputs))",
    ),
    "the teacher runs every batch": (
        "lambda batch: kept[batch.rows]",
        "lambda batch: logits_of_batches(teacher, [batch.inputs], output) if isinstance(teacher, nn.Module) "
        "else kept[batch.rows]",
    ),
    "validated in train mode": ("with in_eval_mode(model), fresh_casts():", "with fresh_casts():"),
    "another seed in each run": ("with seeded(settings.seed, running.device), ", "with "),
    "only the last layer in the optimizer": ("AdamW(trained,", "AdamW(trained[-2:],"),
    "labels only": ("+ alpha * distillation", "+ 0 * alpha * distillation"),
    "alpha on the labels": ("(1 - alpha) * F", "alpha * F"),
    "alpha and temperature of the start throughout": ('"alpha": alpha_at(done)', '"alpha": alpha_at(0.0)'),
    "gradients pile up": ("optimizer.zero_grad()", "pass"),
    "one rate for all groups": ("rate * factor", "rates[0] * factor"),
    "half precision not widened": ("return widen(found)", "return found"),
    "stale weights under autocast": ("set_autocast_cache_enabled(False)", "set_autocast_cache_enabled(True)"),
    "positions without a label counted": ("keep = labels.reshape(-1) != IGNORED", "keep = labels.reshape(-1) > -101"),
    "measuring moves the random numbers": ("with random_state_kept(running.device):", "if True:"),
    "the norm is not clipped": ("clip_grad_norm_(running.trained, clip_norm)", "pass"),
    "the small batch kept": ("islice(order.split(batch_size), steps)", "order.split(batch_size)"),
}


# the same of what layers return, and of losses between them; their tests alone are run
FEATURE_MUTANTS = {
    "a regressor left out of the optimizer": ("Pupil(student, parts) if parts else student", "student"),
    "a regressor that the optimizer may leave out": ("    _check_regressors(student, optimizer)\n", ""),
    "the weight left out": ("value = float(term.weight) * _value(", "value = _value("),
    "the last term alone": ("total = total + value", "total = value"),
    "the regressor on neither side": (
        "student if term.regressor is None else _mapped(term.regressor, student)",
        "student",
    ),
    "the student's features for the teacher's": (
        "_read(of_teacher, term.teacher_layer)",
        "_read(of_student, term.student_layer)",
    ),
    "the features of another call": ("labels, **weights) + extra", "labels, **weights) + of_features()"),
    "a copy that an in-place layer changes": ("tree_map_only(Tensor, Tensor.clone, output)", "output"),
    "a copy without gradient": ("Tensor.clone, output", "lambda each: each.detach().clone(), output"),
    "recorded before other hooks": ("(_recorder(name, recorded)))", "(_recorder(name, recorded), prepend=True))"),
    "hooks left behind": ("            hook.remove()", "            pass"),
    "recorded outside of a call": ("        if not recorded.running:\n            return\n", ""),
    "the second run of a layer for the first": ("        if name in recorded:", "        if False:"),
    "compiled code not noticed": ("    if compiled or isinstance(", "    if isinstance("),
    "a term that teaches nothing": ("    if not value.requires_grad:", "    if False:"),
    "a frozen layer not noticed": (
        "    if not any(part.requires_grad for part",
        "    if False and any(part.requires_grad for part",
    ),
}


class Mutating(importlib.abc.MetaPathFinder):
    """Imports `kdcourse.training`, `kdcourse.features` and `kdcourse._base.modes` anew, with one passage replaced."""

    def __init__(self, old, new):
        root = Path(training.__file__).parent
        self.sources = {f"kdcourse.training.{path.stem}": path for path in root.glob("*.py")}
        self.sources["kdcourse.training"] = self.sources.pop("kdcourse.training.__init__")
        self.sources["kdcourse.features"] = root.parent / "features.py"
        self.sources["kdcourse._base.modes"] = root.parent / "_base" / "modes.py"
        texts = {name: path.read_text(encoding="utf-8") for name, path in self.sources.items()}
        assert sum(text.count(old) for text in texts.values()) == 1, old
        self.texts = {name: text.replace(old, new) for name, text in texts.items()}

    def find_spec(self, name, path=None, target=None):
        if name not in self.texts:
            return None
        is_package = name == "kdcourse.training"
        return importlib.util.spec_from_loader(name, self, origin=str(self.sources[name]), is_package=is_package)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(self.texts[module.__name__], module.__spec__.origin, "exec"), vars(module))


def mutated_training(old, new, monkeypatch):
    finder = Mutating(old, new)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    for name in finder.sources:
        monkeypatch.delitem(sys.modules, name)
    for package, name in ((kdcourse, "training"), (kdcourse, "features"), (kdcourse._base, "modes")):
        monkeypatch.setattr(package, name, getattr(package, name))  # the import sets it; this puts it back
    return importlib.import_module("kdcourse.training")


@pytest.mark.parametrize("name", TRAINING_MUTANTS)
def test_a_mistake_written_into_the_training_loop_is_killed_by_a_test(name, monkeypatch):
    module = mutated_training(*TRAINING_MUTANTS[name], monkeypatch)
    killed_by_one_of(TRAINING_TESTS, {shared: getattr(module, shared) for shared in module.__all__}, name, monkeypatch)


@pytest.mark.parametrize("name", FEATURE_MUTANTS)
def test_a_mistake_written_into_feature_terms_is_killed_by_a_test(name, monkeypatch):
    module = mutated_training(*FEATURE_MUTANTS[name], monkeypatch)
    features = importlib.import_module("kdcourse.features")
    new = {"distill": module.distill, "outputs_of": features.outputs_of, "FeatureTerm": features.FeatureTerm}
    killed_by_one_of([test_features], new, name, monkeypatch)


def killed_by_one_of(modules, new, name, monkeypatch):
    for tests, (shared, value) in itertools.product(modules, new.items()):
        monkeypatch.setattr(tests, shared, value, raising=False)
    for test, arguments in itertools.chain(*map(calls, modules)):
        try:
            test(**arguments)
        except (AssertionError, pytest.fail.Exception):
            print(f"\n{'training':<27}{name:<48}killed by {test.__name__}", end="")
            return
        except (ValueError, RuntimeError):
            continue  # it broke down, which is no proof of this mistake
    raise AssertionError(f"{name}: no test fails")
