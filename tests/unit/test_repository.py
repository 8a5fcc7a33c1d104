"""Rules about the repository as a whole: what may stand in it, how long a piece may grow, what has to agree."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))

# Classes of one letter and groups keep these patterns from finding themselves.
MACHINE_PATH = re.compile(r"(?<![\w.~<>}-])/(work|root|home|Users)/\w")
INDEX_ADDRESS = re.compile(r"index[-]url|extra[-]index|find[-]links|pypi[.]org|pythonhosted[.]org|://\S+/simpl[e]\b")
CONTEXT_VALUES = re.compile(r"(context|ctx)(\(\))?\.[p]arams\b")
MAX_FILE_BYTES = 10_000_000
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# "path::function": why one piece is clearer than two.
LONG_FUNCTIONS: dict[str, str] = {}

# What has to work on a machine without PyTorch. The import-linter contract of pyproject.toml reads our import lines;
# only importing shows what the packages' __init__ files and third parties pull in.
LIGHT_MODULES = (
    "answers",
    "data",
    "errors",
    "eval",
    "prompts",
    "records",
    "report",
    "rewards",
    "engines.cache",
    "engines.endpoint",
    "engines.engine",
    "engines.pace",
    "engines.scripted",
    "engines.settings",
    "settings",
    "stats",
    "types",
)


@pytest.fixture(scope="module")
def repository_files() -> list[Path]:
    """Every file that is or would be committed."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (REPOSITORY / name for name in listing.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def matching_lines(paths: list[Path], pattern: re.Pattern[str]) -> list[str]:
    """`path:line: text` wherever the pattern occurs in a text file."""
    found = []
    for path in paths:
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:120]}")
    return found


def functions(tree: ast.Module, prefix: str) -> Iterator[tuple[str, int]]:
    """`prefix::name` and number of lines of every function, nested ones and methods too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{prefix}::{node.name}", node.end_lineno - node.lineno + 1


def local_link_targets(markdown: str) -> Iterator[str]:
    """Targets of links and images that name a file, without their anchors; code blocks are no links."""
    prose = re.sub(r"^(```|~~~).*?^\1", "", markdown, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(\s*<?([^)\s>]+)", re.sub(r"`[^`\n]*`", "", prose)):
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z][a-z0-9+.-]*:", path):
            yield path


def pins() -> dict[str, str]:
    """Package name to version, from constraints.txt."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    for line in pinned:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), f"not a plain name==version line: {line!r}"
    versions = {canonicalize_name(name): version for name, version in (line.split("==") for line in pinned)}
    assert len(versions) == len(pinned), "a package is pinned twice"
    return versions


def test_no_path_of_one_machine(repository_files: list[Path]) -> None:
    assert matching_lines(repository_files, MACHINE_PATH) == []


def test_no_address_of_a_package_index(repository_files: list[Path]) -> None:
    assert matching_lines(repository_files, INDEX_ADDRESS) == []


def test_commands_read_their_own_parameters() -> None:
    """In some versions of typer a context holds the plain text of the command line: no paths, numbers and enums."""
    assert matching_lines(sorted((REPOSITORY / "src/medr1/cli").rglob("*.py")), CONTEXT_VALUES) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("context.params['seed']", True),
        ("ctx.params", True),
        ("typer.get_current_context().params", True),
        ("job.params", False),
        ("context.parameters", False),
    ],
)
def test_values_of_a_context_are_told_from_others(line: str, found: bool) -> None:
    assert bool(CONTEXT_VALUES.search(line)) is found


def test_no_huge_file(repository_files: list[Path]) -> None:
    assert [path for path in repository_files if path.stat().st_size > MAX_FILE_BYTES] == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/{}/someone/data", True),
        ("open('/{}/main')", True),
        ("docs/{}/page.md", False),
        ("../{}/page", False),
        ("https://example.org/{}/page", False),
        ("path/<name>/{}/x", False),
    ],
)
def test_machine_paths_are_told_from_relative_ones(line: str, found: bool) -> None:
    for folder in ("work", "root", "home", "Users"):
        assert bool(MACHINE_PATH.search(line.format(folder))) is found


def test_files_stay_short() -> None:
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    long = {
        name: lines
        for path in SOURCES
        for name, lines in functions(ast.parse(path.read_bytes()), str(path.relative_to(REPOSITORY)))
        if lines > MAX_FUNCTION_LINES
    }
    assert {name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS} == {}
    assert LONG_FUNCTIONS.keys() <= long.keys(), "an exception that is no longer needed"


def test_function_lengths_count_nested_functions_and_methods() -> None:
    source = "class A:\n    def f(self):\n        def g():\n            pass\n        return g\n"
    assert dict(functions(ast.parse(source), "a.py")) == {"a.py::f": 4, "a.py::g": 2}


def test_markdown_links_lead_somewhere() -> None:
    pages = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "cookbook").rglob("*.md")]
    assert pages
    broken = [
        f"{page.relative_to(REPOSITORY)}: {target}"
        for page in pages
        for target in local_link_targets(page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_links_are_found_outside_code_only() -> None:
    prose = "[a](a.md#top) ![b](<b.png>) [w](https://c.d) [t](#here) `[n](n.md)` [e](e.md 'E')"
    page = f"{prose}\n```\n[n](n.md)\n```\n[f](f.md)\n"
    assert list(local_link_targets(page)) == ["a.md", "b.png", "e.md", "f.md"]


def test_recipes_are_yaml_mappings() -> None:
    for path in sorted((REPOSITORY / "src/medr1/recipes").rglob("*.yaml")):
        assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict), path


def test_every_dependency_is_pinned_within_its_range() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    versions = pins()
    for line in chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(line)
        if requirement.name == project["name"]:
            continue
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} has no line in constraints.txt; run: make constraints"
        assert version in requirement.specifier, f"constraints.txt pins {requirement.name} {version}, not {requirement}"


def test_the_lowest_versions_are_those_declared() -> None:
    program = [sys.executable, str(REPOSITORY / ".ci/lower_bounds.py")]
    printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout.split()
    lowest = dict(line.split("==") for line in printed)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in chain(project["dependencies"], extras["train"], extras["dicom"], extras["volumes"]):
        requirement = Requirement(line)
        version = lowest.pop(requirement.name)
        assert version in requirement.specifier
        if requirement.name == "torch":
            assert version == pins()["torch"], "another build is gigabytes"
        else:
            assert re.search(rf"[>=]={re.escape(version)}(?![.]?\d)", line), f"{version} is not the bound of {line}"
    assert {name: version for name, version in lowest.items() if pins()[canonicalize_name(name)] != version} == {}


def test_light_modules_load_no_torch() -> None:
    imports = "; ".join(f"import medr1.{name}" for name in LIGHT_MODULES)
    heavy = "{'torch', 'transformers', 'trl', 'peft', 'accelerate'}"
    program = f"{imports}; import sys; print(*sorted({heavy} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []
