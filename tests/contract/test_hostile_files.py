"""What was made to do harm is refused in a sentence, in little memory and time, and nothing else is opened or sent."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hostile_cases

MOST_MIB = 1024
"""Of memory above that of a process that has not begun."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured by /proc")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How every case ended, all of them run by one process that forks."""
    folder = tmp_path_factory.mktemp("hostile")
    program = Path(hostile_cases.__file__).with_name("hostile_child.py")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, program, folder], capture_output=True, text=True, check=False, env=environment
    )
    lines = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 0, done.stderr
    return {line["name"]: line for line in lines}


@pytest.mark.parametrize("name", hostile_cases.CASES)
def test_it_is_refused_in_a_sentence_and_reaches_nothing(name: str, found: dict[str, dict[str, Any]]):
    case = found[name]
    assert case["ended"] == ("taken" if name in hostile_cases.TAKEN else "refused"), case["said"]
    assert case["outside"] == []
    assert case["mib"] <= MOST_MIB
    assert case["said"].isprintable(), case["said"]
    assert len(case["said"]) < 700
