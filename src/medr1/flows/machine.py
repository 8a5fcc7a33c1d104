"""What this machine has of what medr1 needs, and how to get the rest. No path and no host name is told."""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import medr1
from medr1.results import Record

Verdict = Literal["ok", "missing", "other version", "broken", "little", "not needed"]
EXTRAS = {"": "records, scoring, reports", "train": "models: ask, eval, train, attack", "dicom": "DICOM pictures"}
"""Groups of packages that users install, by the name of the extra."""
SHOWN = ("torch", "transformers", "trl", "peft", "accelerate")
"""Packages with a line of their own also where all is well: what an error is reported with."""
LITTLE_DISK, LITTLE_MEMORY = 10.0, 8.0
"""GiB: two checkpoints of 2 B weights, and one of them with its pictures on a processor."""


class Check(Record):
    """One thing that was looked at."""

    name: str
    found: str | None
    wanted: str
    verdict: Verdict
    mend: str | None
    """What to type or to do."""


class Machine(Record):
    """What `medr1 doctor --json` prints without a run."""

    medr1: str
    platform: str
    cpu_count: int | None
    gpu: str | None
    image_backend: str | None
    free_disk_gib: float
    memory_gib: float | None
    packages: dict[str, str | None]
    checks: tuple[Check, ...]


def examine() -> Machine:
    """Look at everything. Loads torch, which takes seconds."""
    gpu, torch_checks = _torch()
    disk, memory = shutil.disk_usage(Path.cwd()).free / 2**30, _memory()
    checks = [
        _python(),
        *_packages(),
        *torch_checks,
        _torchvision(),
        _vllm(),
        _room("free disk, GiB", disk, LITTLE_DISK, "checkpoints and runs need more: make room, or set HF_HOME"),
    ]
    if memory is not None:
        checks.append(_room("memory, GiB", memory, LITTLE_MEMORY, "stay with the toy, or ask an --endpoint"))
    names = [*SHOWN, "torchvision", "triton", "vllm"]
    return Machine(
        medr1=medr1.__version__,
        platform=f"{platform.system()} {platform.machine()}",
        cpu_count=os.cpu_count(),
        gpu=gpu,
        image_backend=None if _found("transformers") is None else ("torchvision" if _loads("torchvision") else "pil"),
        free_disk_gib=round(disk, 1),
        memory_gib=None if memory is None else round(memory, 1),
        packages={name: _found(name) for name in names},
        checks=tuple(checks),
    )


def install_line(extra: str) -> str:
    """What to type for the packages of an extra: in a clone, under the versions that the tests ran with."""
    told = json.loads(distribution("medr1").read_text("direct_url.json") or "{}")
    bracket = f"[{extra}]" if extra else ""
    if told.get("dir_info", {}).get("editable"):
        return f"pip install -c constraints.txt -e '.{bracket}'"
    return f"pip install 'medr1{bracket}'"


def _found(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _loads(module: str) -> bool:
    """Whether a module can be imported: a build for another torch cannot, in ways of its own."""
    try:
        import_module(module)
    except Exception:  # noqa: BLE001 - a library that does not fit raises whatever it meets
        return False
    return True


def _python() -> Check:
    wanted, found = distribution("medr1").metadata["Requires-Python"], platform.python_version()
    fits = found in SpecifierSet(wanted)
    return Check(
        name="python",
        found=found,
        wanted=wanted,
        verdict="ok" if fits else "other version",
        mend=None if fits else "make PYTHON=python3.12 install",
    )


def requirement_check(requirement: Requirement, found: str | None, line: str) -> Check:
    """Whether a package is there in the range that medr1 declares.

    Args:
        requirement: with its range.
        found: installed version.
        line: that installs it.
    """
    verdict: Verdict = "ok"
    if found is None:
        verdict = "missing"
    elif not requirement.specifier.contains(found, prereleases=True):
        verdict = "other version"
    mend = None if verdict == "ok" else line
    return Check(name=requirement.name, found=found, wanted=str(requirement.specifier), verdict=verdict, mend=mend)


def _packages() -> Iterator[Check]:
    """A line for each extra, and for each package that is shown or not as declared."""
    declared = [Requirement(line) for line in distribution("medr1").requires or ()]
    for extra, what in EXTRAS.items():
        ours = [one for one in declared if one.name != "medr1" and _belongs(one, extra)]
        checks = [requirement_check(one, _found(one.name), install_line(extra)) for one in ours]
        wrong = [check for check in checks if check.verdict != "ok"]
        yield Check(
            name=f"medr1[{extra}]" if extra else "medr1",
            found=f"{len(checks) - len(wrong)} of {len(checks)}",
            wanted=what,
            verdict="ok" if not wrong else "missing",
            mend=install_line(extra) if wrong else None,
        )
        yield from (check for check in checks if check.verdict != "ok" or check.name in SHOWN)


def _belongs(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return not extra
    marker = requirement.marker
    return bool(extra) and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _torch() -> tuple[str | None, list[Check]]:
    """Names and memory of the GPUs, and what stands between torch and them."""
    if _found("torch") is None:
        return None, []
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - as in `_loads`
        said = f"it does not load ({type(error).__name__}); install it again"
        return None, [Check(name="CUDA", found=None, wanted="a GPU, if any", verdict="broken", mend=said)]
    built = torch.version.cuda
    if not torch.cuda.is_available():
        mend = None if built is None else "no GPU answers: look at nvidia-smi and the driver"
        found = "torch for processors" if built is None else f"torch for CUDA {built}"
        verdict: Verdict = "not needed" if built is None else "broken"
        return None, [Check(name="CUDA", found=found, wanted="a GPU, if any", verdict=verdict, mend=mend)]
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    gpu = ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in devices)
    triton, loads = _found("triton"), _loads("triton")
    return gpu, [
        Check(name="CUDA", found=f"{built}, {len(devices)} GPUs", wanted="a GPU, if any", verdict="ok", mend=None),
        Check(
            name="triton",
            found=triton,
            wanted="comes with torch for CUDA",
            verdict="ok" if loads else "broken",
            mend=None if loads else "pip install --force-reinstall torch",
        ),
    ]


def _torchvision() -> Check:
    found, loads = _found("torchvision"), _loads("torchvision")
    mend = None
    if found is None:
        mend = "AutoProcessor of the published cards needs it; medr1 does not"
    elif not loads:
        mend = "it is for another torch, and breaks transformers: pip uninstall torchvision"
    verdict: Verdict = "not needed" if found is None else "ok" if loads else "broken"
    return Check(name="torchvision", found=found, wanted="of the same build as torch", verdict=verdict, mend=mend)


def _vllm() -> Check:
    found = _found("vllm")
    mend = None if found else "for --engine vllm, in an environment of its own: constraints-vllm.txt"
    return Check(name="vllm", found=found, wanted="faster sampling", verdict="ok" if found else "not needed", mend=mend)


def _memory() -> float | None:
    """GiB of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):
        return None


def _room(name: str, found: float, least: float, mend: str) -> Check:
    little = found < least
    return Check(
        name=name,
        found=f"{found:,.1f}",
        wanted=f"at least {least:g}",
        verdict="little" if little else "ok",
        mend=mend if little else None,
    )
