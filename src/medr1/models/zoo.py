"""Checkpoints by short name, where on this machine they are, and what `medr1 models tiny` takes.

No torch: what is not there must be told at once.
"""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Annotated

from annotated_types import Ge

from medr1.errors import ModelError
from medr1.settings import RunSettings


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """Where a checkpoint is and what it is."""

    hub_id: str
    description: str


ZOO: dict[str, ZooEntry] = {
    "qwen2-vl-2b": ZooEntry("Qwen/Qwen2-VL-2B-Instruct", "base of MedVLM-R1 and Med-R1, 2.2 B parameters"),
    "qwen2-vl-7b": ZooEntry("Qwen/Qwen2-VL-7B-Instruct", "8.3 B parameters"),
    "qwen2.5-vl-3b": ZooEntry("Qwen/Qwen2.5-VL-3B-Instruct", "base of Med-R1's second family, 3.8 B parameters"),
    "qwen2.5-vl-7b": ZooEntry("Qwen/Qwen2.5-VL-7B-Instruct", "8.3 B parameters"),
    "qwen3-vl-2b": ZooEntry("Qwen/Qwen3-VL-2B-Instruct", "2.1 B parameters"),
    "qwen3-vl-4b": ZooEntry("Qwen/Qwen3-VL-4B-Instruct", "4.4 B parameters"),
    "qwen3-vl-8b": ZooEntry("Qwen/Qwen3-VL-8B-Instruct", "8.8 B parameters"),
    "medvlm-r1": ZooEntry("JZPeterPan/MedVLM-R1", "Qwen2-VL-2B after GRPO on MRI questions"),
    "med-r1": ZooEntry("yuxianglai117/Med-R1", "thirteen checkpoints, one per modality and task"),
}

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
"""What is fetched of a repository: weights as safetensors only, and no code."""
HUB_PATIENCE = "HF_HUB_ETAG_TIMEOUT"
"""Variable of huggingface_hub with the seconds that the hub has to say whether it knows a name."""


def locate(model: str | Path) -> Path:
    """Folder of a checkpoint: a path, a short name of the zoo, or a name on the hub, fetched when it is not cached.

    Raises:
        ModelError: there is neither such a folder nor such a repository within reach.
    """
    if Path(model).is_dir():
        return Path(model)
    name = ZOO[str(model)].hub_id if str(model) in ZOO else str(model)
    if not HUB_NAME.fullmatch(name):
        raise ModelError(f"{model} is no folder; name a checkpoint folder, a hub name or one of {', '.join(ZOO)}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    silence = _silence(name)
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=silence is not None))
    except LocalEntryNotFoundError as error:
        why = silence or "the line to it broke"
        raise ModelError(
            f"{model} is no folder and not in the cache of the hub, which cannot be asked ({why}); check the name and "
            "the connection"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            f"{model} is no folder, and the hub did not give it ({type(error).__name__}); check the name, or whether "
            "your account may read it"
        ) from error


@cache
def _silence(name: str) -> str | None:
    """Why the hub cannot be asked for a name; None where it answers, whatever it says.

    It is asked by a thread of its own, since nothing else ends the look-up of an address that nobody answers.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    said: list[str | None] = []
    seconds = float(os.environ.get(HUB_PATIENCE, 4))

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=seconds)
            said.append(None)
        except HfHubHTTPError:
            said.append(None)
        except Exception as error:  # noqa: BLE001 - what the client raises for a line that is down has no common kind
            said.append(f"{type(error).__name__}: {error}")

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else f"no answer within {seconds:g} s; {HUB_PATIENCE}=60 waits longer"


SHIPPED = "qwen2_5_vl"
"""Family of the warm start that comes with the package."""


class TinySettings(RunSettings):
    """Which tiny checkpoint is written."""

    out: Path
    """Folder to write the checkpoint to."""
    train: bool = False
    """Train the warm start anew (about ten minutes)."""
    random: bool = False
    """Starting weights only, untrained."""
    family: str = SHIPPED
    """qwen2_5_vl, qwen2_vl or qwen3_vl; the shipped one is qwen2_5_vl."""
    seed: int = 0
    """Seed of the weights and the training."""
    processes: Annotated[int, Ge(1)] = 2
    """Processes that draw phantoms."""
