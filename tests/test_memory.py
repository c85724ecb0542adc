"""A process that computes keeps its memory."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from fracray.memory import keep_freed_memory
if {kept}:
    keep_freed_memory()
def batch():
    return b"x" * (64 << 20)
batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, kept: bool) -> int:
    program = [sys.executable, "-c", FAULTS.format(kept=kept)]
    return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the C library does as it likes")
def test_a_batch_finds_the_memory_of_the_one_before() -> None:
    pages_of_a_batch = (64 << 20) // 4096
    assert faults(kept=True) < pages_of_a_batch < faults(kept=False)
