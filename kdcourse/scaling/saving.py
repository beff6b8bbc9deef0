"""Checkpoints of several processes: a folder for each epoch, which counts once its last file is there."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .._base.files import write_whole
from ..training.options import History

if TYPE_CHECKING:
    from accelerate import Accelerator

LAST = "history.json"


def resume(accelerator: "Accelerator", folder: Path, identity: dict[str, str], history: History) -> None:
    """Put everything that was prepared where the last whole checkpoint says it was, if there is one."""
    whole = sorted(folder.glob(f"epoch-*/{LAST}"))
    if not whole:
        return
    stored = json.loads(whole[-1].read_text(encoding="utf-8"))
    theirs = stored["identity"]
    changed = sorted(name for name in identity | theirs if identity.get(name) != theirs.get(name))
    if changed:
        raise ValueError(
            f"{folder} has the checkpoint of another run, which differs in {', '.join(changed)}: name another folder, "
            "or delete it to start again"
        )
    accelerator.load_state(str(whole[-1].parent))
    vars(history).update(stored["history"])


def save(accelerator: "Accelerator", folder: Path, identity: dict[str, str], history: History) -> None:
    """Save an epoch beside the one before, which goes when this one is whole."""
    path = folder / f"epoch-{len(history.train_loss):05}"
    accelerator.save_state(str(path))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_whole(path / LAST, json.dumps({"identity": identity, "history": vars(history)}))
        for old in folder.glob("epoch-*"):
            if old != path:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()
