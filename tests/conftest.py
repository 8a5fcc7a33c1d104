"""Fixtures that every tier shares."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a test; where changes are judged, the same examples run every time.
settings.register_profile("medr1", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("medr1"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "medr1")

sys.path.insert(0, str(Path(__file__).resolve().parent))  # import mode importlib leaves the path alone
pytest_plugins = ["tiny_models"]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two OpenMP threads that spin on two cores slow each other down
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("COLUMNS", "200")  # tables with long temporary paths would wrap
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if not Path("/dev/nvidiactl").exists():  # read when Triton is first imported; asking torch would take seconds
    os.environ.setdefault("TRITON_INTERPRET", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the published splits and the twelve real images; the test is skipped where there is none."""
    named = os.environ.get("MEDR1_REAL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: set MEDR1_REAL_DATA")
    return folder
