"""`distill` in several processes, by Accelerate: each takes a part of every batch, all make the same step.

Write a script, since functions of a notebook cannot be sent to other processes, and start it with
``torchrun --nproc-per-node=2 train.py`` or ``accelerate launch train.py``::

    accelerator = Accelerator()  # or mixed_precision="bf16", gradient_accumulation_steps=4, log_with=…, fsdp_plugin=…
    distill(student, teacher, loader, accelerator=accelerator, epochs=10, checkpoint="run")
    if accelerator.is_main_process:
        …save the student, measure it

The loader is the one of a single process, and so are the learning rate and the result, up to rounding: a batch is cut
into equal parts, no row is used twice, and each position weighs the same wherever it was computed. What looks at the
whole batch does not split: batch norm sees its own part, unless `torch.nn.SyncBatchNorm.convert_sync_batchnorm` was
applied (on GPUs; on CPUs PyTorch refuses it).
"""

from .distilling import distill
from .gradients import mean_gradients

__all__ = ["distill", "mean_gradients"]
