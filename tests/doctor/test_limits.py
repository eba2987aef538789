"""Laws of control groups: the smallest limit counts, of both versions, and a limit that cannot be read is none."""

import pytest

from lstmq.doctor import Limits, read_limits

V2, V1 = "0::/a/b\n", "4:memory:/a\n3:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        (V2, {"a/b/cpu.max": "150000 100000", "a/b/memory.max": "1000"}, Limits(processors=1.5, memory=1000)),
        (V2, {"a/b/cpu.max": "max 100000", "a/b/memory.max": "max"}, Limits()),
        (V2, {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, Limits(processors=0.5)),
        (V2, {"a/cpu.max": "50000 100000", "cpu.max": "20000 100000"}, Limits(processors=0.2)),
        (V2, {"unified/a/memory.max": "70"}, Limits(memory=70)),
        (V2, {"a/cpu.max": "", "memory.max": "much"}, Limits()),
        ("0::/../../elsewhere\n", {"cpu.max": "100000 100000"}, Limits(processors=1.0)),
        (
            V1,
            {
                "cpu/a/cpu.cfs_quota_us": "200000",
                "cpu/a/cpu.cfs_period_us": "100000",
                "memory/a/memory.limit_in_bytes": "9",
            },
            Limits(processors=2.0, memory=9),
        ),
        (
            V1,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            Limits(),
        ),
        ("", {"cpu.max": "1 1"}, Limits()),
        ("nonsense\n", {}, Limits()),
    ],
)
def test_limits_are_the_smallest_of_the_group_and_of_those_around_it(tmp_path, groups, files, limits):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert read_limits(tmp_path) == limits


def test_there_are_no_limits_where_there_are_no_control_groups(tmp_path):
    assert read_limits(tmp_path) == Limits()
