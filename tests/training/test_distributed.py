"""Laws of a process group.

1. Gathering the shards of all processes returns the whole.
2. All processes get the same mean, and the same answer to whether any of them is true.
3. A device that does not exist is an error.
"""

import subprocess
import sys

import pytest
import torch

from lstmq.training.distributed import ProcessGroup, process_group

ONE_OF_TWO = """
import sys
import torch
import torch.distributed as dist
from lstmq.training.distributed import ProcessGroup

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
group, whole = ProcessGroup(torch.device("cpu")), torch.arange(24.0).view(2, 4, 3)
shard = group.shard(whole)
print(torch.equal(shard, whole[:, 2 * rank : 2 * rank + 2]), torch.equal(group.gather(shard), whole))
print(group.mean(torch.tensor(float(rank))).item(), group.any(rank == 1), group.any(False))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_gather_their_shards_and_agree(tmp_path):
    command = [sys.executable, "-c", ONE_OF_TWO]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path / "store")], **pipes) for rank in (0, 1)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert output.split() == ["True", "True", "0.5", "True", "False"], errors


def test_single_process_has_everything():
    group, whole = ProcessGroup(torch.device("cpu")), torch.arange(24.0).view(2, 4, 3)
    assert (group.rank, group.size) == (0, 1)
    assert torch.equal(group.shard(whole), whole)
    assert torch.equal(group.gather(whole), whole)
    assert group.mean(torch.tensor(3.0)) == 3
    assert [group.any(value) for value in (True, False)] == [True, False]


def test_process_group_without_torchrun_is_this_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group("cpu") as (device, writes):
        assert (device, writes) == (torch.device("cpu"), True)


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_unknown_device_is_refused(device):
    with pytest.raises(ValueError, match=f"no device '{device}'"), process_group(device):
        pass
