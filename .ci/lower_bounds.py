"""Prints the lowest version that pyproject.toml declares of every dependency, as constraints for `make test-lower`.

What is not declared, and PyTorch, of which other builds are gigabytes, stays as constraints.txt has it.
"""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
EXTRAS = ("train", "dicom", "volumes")

AS_TESTED = {"torch"}
OLDER = {"dill", "fsspec", "huggingface-hub", "multiprocess", "pandas", "pydantic-core"}
"""Not declared, and needed older beside the lowest versions, which bound them themselves."""


def main() -> None:
    """Print a line `name==version` for each."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    versions = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            versions[name.lower().replace("_", "-")] = version
    for line in declared:
        name, version = re.split("[=>]=", re.sub(r",.*|\.\*", "", line))
        if name not in AS_TESTED:
            versions[name] = version
    for name, version in versions.items():
        if name not in OLDER:
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
