"""A teacher kept on disk: its logits, or its k most probable classes, each row found by a hash of its input.

A store is a folder of safetensors files and nothing else; each says in its header which teacher, data set and
temperature it is of. A row is one example: a hash of its input, a checksum, and the teacher's logits (..., C) for it,
one position of an image, L of a text. Rows are found by what the input is, not by where it stood. So a loader may
shuffle, and an input that was augmented since is refused instead of being given another's logits.

Write once, in any number of processes, each with batches of its own:
``fill(store, teacher, islice(loader, rank, None, processes))``. One that was killed is started again and goes on.

Then the store stands where the teacher stood: ``distill(student, store, loader)``, or in a loop of your own
``kd_loss(student(images), store(images), temperature=4.0)``. With k classes, ``top = store.read(tokens)`` and
``top_k_kd_loss(student(tokens), top.log_probs, top.indices, temperature=store.temperature)``.
"""

from .filling import fill
from .keys import fingerprint, row_keys
from .planning import Plan, plan
from .store import TeacherStore
from .top import TopK, top_k

__all__ = ["Plan", "TeacherStore", "TopK", "fill", "fingerprint", "plan", "row_keys", "top_k"]
