"""Laws of the processes that share a run: what is shared out is joined again, and what is decided is decided by all."""

import subprocess
import sys

RANK = """
import sys
import torch
import torch.distributed as dist
from lstmq.ranks import Ranks

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
ranks, whole = Ranks(torch.device("cpu")), torch.arange(24.0).view(2, 4, 3)
part = ranks.share(whole)
print(torch.equal(part, whole[:, 2 * rank : 2 * rank + 2]), torch.equal(ranks.join(part), whole))
print(ranks.mean(torch.tensor(float(rank))).item(), ranks.any(rank == 1), ranks.any(False))
dist.destroy_process_group()
"""


def test_two_processes_share_and_agree(tmp_path):
    command = [sys.executable, "-c", RANK]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path / "store")], **pipes) for rank in (0, 1)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert output.split() == ["True", "True", "0.5", "True", "False"], errors
