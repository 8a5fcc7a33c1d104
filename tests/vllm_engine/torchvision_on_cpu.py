"""Lets the torchvision wheel of the package index load beside a CPU build of PyTorch: `python torchvision_on_cpu.py`.

Its two libraries are linked against PyTorch's CUDA libraries, so `import torchvision` fails with "operator
torchvision::nms does not exist" where those are not. The handful of functions that they want from there are never
called on tensors of the CPU. This script compiles stand-ins (each aborts when it is called after all) and a hook that
loads them before torchvision is imported. Needs gcc and nm; does nothing where torchvision loads already.
"""

import ctypes
import subprocess
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])
FOLDER = SITE / "_torchvision_on_cpu"
LIBRARIES = ("libcudart.so.13", "libc10_cuda.so", "libtorch_cuda.so")
"""Stand-ins, in the order in which they are loaded."""

HOOK = f'''"""Loads stand-ins for CUDA libraries before torchvision; torchvision_on_cpu.py wrote it."""

import importlib.machinery
import sys


class _BeforeTorchvision:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(cls)
        import ctypes
        from pathlib import Path

        folder = Path(__file__).parent / "{FOLDER.name}"
        for library in {LIBRARIES!r}:
            if (folder / library).exists():
                ctypes.CDLL(str(folder / library), mode=ctypes.RTLD_GLOBAL)
        return importlib.machinery.PathFinder.find_spec(name, path)


sys.meta_path.insert(0, _BeforeTorchvision)
'''


def undefined_symbols(library: Path) -> set[str]:
    """Names that a shared library expects from others, without their versions."""
    listing = subprocess.run(
        ["nm", "--dynamic", "--undefined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[-1].split("@")[0] for line in listing.splitlines() if line.split()[-2] == "U"}


def definition(symbol: str) -> str:
    """C source of a stand-in. C++ names arrive mangled, which C takes as they are."""
    if symbol.endswith("CUDACachingAllocator9allocatorE"):
        return f"void *{symbol} = 0;"
    if symbol == "_ZN3c104cuda12device_countEv" or symbol.startswith("__cuda"):  # asked or registered while loading
        return f"long {symbol}(void) {{ return 0; }}"
    return f"void {symbol}(void) {{ abort(); }}"


def compile_library(name: str, symbols: set[str], *options: str) -> None:
    source = FOLDER / f"{name}.c"
    source.write_text("#include <stdlib.h>\n" + "\n".join(definition(symbol) for symbol in sorted(symbols)) + "\n")
    target = str(FOLDER / name)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-w", "-o", target, f"-Wl,-soname,{name}", *options, str(source)], check=True
    )


def loads() -> bool:
    """Whether torchvision can be imported, asked in a fresh process."""
    return subprocess.run([sys.executable, "-c", "import torchvision.ops"], capture_output=True).returncode == 0


def has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def main() -> None:
    if loads():
        return
    FOLDER.mkdir(exist_ok=True)
    package = SITE / "torchvision"
    wanted = undefined_symbols(package / "_C.so") | undefined_symbols(package / "image.so")
    compile_library("libc10_cuda.so", {s for s in wanted if "3c104cuda" in s or "c10_cuda" in s})
    compile_library("libtorch_cuda.so", {s for s in wanted if "2at4cuda" in s})
    if not has_library("libcudart.so.13"):
        versions = FOLDER / "libcudart.map"
        versions.write_text("libcudart.so.13 { global: *; };\n")
        runtime = {s for s in wanted if s.startswith(("cuda", "__cuda"))}
        compile_library("libcudart.so.13", runtime, f"-Wl,--version-script={versions}")
    (SITE / "_torchvision_on_cpu_hook.py").write_text(HOOK)
    (SITE / "_torchvision_on_cpu.pth").write_text("import _torchvision_on_cpu_hook\n")
    assert loads(), "torchvision still does not load; it wants other functions than this script knows"


if __name__ == "__main__":
    main()
