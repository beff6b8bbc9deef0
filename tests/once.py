"""What no other Python can make end otherwise: tests that `make again` leaves out, by how their ids begin, and why.

Everything that runs the package, and each exercise's right answers, is run again.
"""

ONCE = {
    "notebooks, pages and stored results are files": (
        "test_bindings.py", "test_tamper.py", "test_language.py", "test_glossary.py", "test_front.py",
        "test_notebooks.py", "test_results.py",
    ),
    "mistakes written into answers and into the package try the checks and the tests": (
        "test_exercises.py::test_a_misconception", "test_faults.py::test_another_type", "test_mutants.py",
        "test_loss_mutants.py", "test_feature_mutants.py", "test_compression_mutants.py", "test_mutation_gate.py",
    ),
    "a text is compared with itself": ("test_checking.py::test_what_is_printed_is_the_same",),
    "other programs do the work": ("test_ci.py", "test_offline.py"),
}  # fmt: skip


def once(path, name):
    """Whether a test of this file and name is one of them."""
    return f"{path.name}::{name}".startswith(tuple(start for starts in ONCE.values() for start in starts))
