"""Runs cases of `hostile_cases.py`, each in a fork of its own: `python hostile_child.py FOLDER [NAME …]`.

Prints a JSON line a case: what it ended with, the memory above that of before, and every file outside of its folder
that Python opened, and every address that it connected to (an audit hook tells).
"""

import gc
import json
import os
import resource
import signal
import sys
import sysconfig
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import hostile_cases
import medr1.models.loading
from medr1.errors import MedR1Error

SECONDS = 10
"""Of computing; a busy machine does not count."""
OURS = [os.path.realpath(p) for p in (Path(medr1.__file__).parent, *sysconfig.get_paths().values(), sys.base_prefix)]


def peak() -> int:
    """The most memory that was in use since `forget_peak`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def attempt(name: str, folder: Path) -> dict[str, Any]:
    data = folder / "data"
    data.mkdir(parents=True)
    os.chdir(data)
    (folder / "secret.png").write_bytes(hostile_cases._png(8, 8, 8, 0, fill=True))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    call = hostile_cases.CASES[name](data)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, outside = peak(), []
    allowed = [*OURS, *(os.path.realpath(folder / part) for part in ("data", "out", "cache"))]
    allowed += [
        f"/proc/{os.getpid()}/mounts",
        str(Path(__file__).parent),
    ]  # psutil asks for it; a traceback reads cases

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes) and watching:
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not any(path == place or path.startswith(place + os.sep) for place in allowed):
                outside.append(path)
        elif event in ("socket.connect", "socket.sendto", "os.system") and watching:
            outside.append(event)

    watching = True
    sys.addaudithook(watch)
    used = int(sum(os.times()[:2])) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + SECONDS, used + SECONDS + 1))
    try:
        call()
        ended, said = "taken", ""
    except MedR1Error as error:
        ended, said = "refused", str(error)
    except BaseException:  # noqa: BLE001 - what it was is told
        ended, said = "failed", traceback.format_exc()[-2000:]
    watching = False
    return {"ended": ended, "said": said, "mib": (peak() - before) // 2**20, "outside": outside}


def main() -> None:
    folder, *names = sys.argv[1:]
    warnings.simplefilter("ignore")
    for number, name in enumerate(names or hostile_cases.CASES):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            try:
                found = attempt(name, Path(folder) / str(number))
            except BaseException:  # noqa: BLE001
                found = {"ended": "not made", "said": traceback.format_exc(), "mib": 0, "outside": []}
            os.write(writer, json.dumps(found).encode()[:60_000])
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        killed = {"ended": f"killed by signal {os.waitstatus_to_exitcode(status)}", "said": "", "mib": 0, "outside": []}
        print(json.dumps({"name": name, **(json.loads(text) if text else killed)}), flush=True)


if __name__ == "__main__":
    main()
