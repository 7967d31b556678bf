"""`make torture`, as it is started by hand."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.processes import ROOT

LINE = re.compile(
    r"torture: seed=(\S+) edits=(\d+) faults=(\d+) lost=0 stale=0 extra=0 wasted_inputs=\d+ idle_after=\d+\.\d+s\n"
)


def torture(seed: int, seconds: int) -> None:
    """So much of it. The faults and whatever differs are in the captured stderr."""
    command = [sys.executable, "-m", "tests.torture", f"--seed={seed}", f"--seconds={seconds}"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    line = LINE.fullmatch(done.stdout)
    assert line, done.stdout
    assert done.returncode == 0
    assert int(line[2]) > 8 * seconds, "hardly anything was edited"
    assert int(line[3]) > seconds / 3, "hardly anything was broken"


@pytest.mark.timeout(400)
def test_after_ten_seconds_of_random_edits_under_random_faults_nothing_is_lost_stale_or_extra() -> None:
    torture(1, seconds=10)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(1, 21))
def test_after_a_minute_of_each_of_twenty_seeds_nothing_is_lost_stale_or_extra(seed: int) -> None:
    torture(seed, seconds=60)
