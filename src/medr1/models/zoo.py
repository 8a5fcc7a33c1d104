"""Checkpoints by short name. No torch: listing them must be quick."""

from dataclasses import dataclass


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
