"""What `tests/test_scaling.py` starts on GPUs: a run of `kdcourse.scaling.distill` against one process on the CPU."""

import copy
import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdcourse import scaling, training

FOLDER, ARM = Path(sys.argv[1]), sys.argv[2]


def main():
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, state_dict_type="FULL_STATE_DICT", cpu_ram_efficient_loading=False
    )
    accelerator = Accelerator(**({"fsdp_plugin": plugin} if ARM == "fsdp" else {}))
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(16)] if ARM == "synced" else []
    student, teacher = nn.Sequential(nn.Linear(8, 16), *middle, nn.Tanh(), nn.Linear(16, 3)), nn.Linear(8, 3)
    alone = copy.deepcopy(student)
    if ARM == "synced":
        student = nn.SyncBatchNorm.convert_sync_batchnorm(student)
    loader = DataLoader(TensorDataset(torch.randn(64, 8), torch.arange(64) % 3), batch_size=16)
    made = {"epochs": 2, "optimizer": lambda own: torch.optim.SGD(own, lr=0.1)}
    scaling.distill(student, teacher, loader, accelerator=accelerator, checkpoint=FOLDER / "run", **made)
    if accelerator.is_main_process:
        training.distill(alone, teacher, loader, progress=False, **made)
        if ARM == "fsdp":
            (file,) = (FOLDER / "run" / "epoch-00002").glob("pytorch_model_fsdp.*")
            ends = torch.load(file, weights_only=True) if file.suffix == ".bin" else load_file(file)
        else:
            ends = student.state_dict()
        distance = max((ends[name].cpu() - each.cpu()).abs().max().item() for name, each in alone.state_dict().items())
        (FOLDER / "found.json").write_text(json.dumps({"distance": distance}), encoding="utf-8")
    accelerator.end_training()


if __name__ == "__main__":
    main()
