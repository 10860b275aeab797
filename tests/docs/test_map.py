"""The map in CONTRIBUTING.md is the tree: every room has its line, every line its room, and imports point downwards in it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import CONTRIBUTING, ROOT, blocks

PACKAGES = ("src/mpvit/", "mpvit_cli/")
HEAVY = {"torch", "numpy", "matplotlib", "fvcore", "thop", "einops", "PIL", "safetensors"}


def read_map() -> dict[str, dict[str, str]]:
    """Return what the map says of each room and file, in its order, by the folder that it stands in."""
    folders: dict[str, dict[str, str]] = {}
    for line in blocks(CONTRIBUTING)[0].text.splitlines():
        indent, name, text = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()  # type: ignore[union-attr] # matches any line
        if len(indent) == 0:
            folders[name] = {}
        elif len(indent) == 2:
            folders[list(folders)[-1]][name] = text
        else:  # the line before goes on
            room = folders[list(folders)[-1]]
            room[list(room)[-1]] += f" {line.strip()}"
    return folders


MAP = read_map()


def entries(folder: Path) -> set[str]:
    """Return the rooms and modules of a folder, as the map writes them."""
    rooms = {f"{path.name}/" for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"}
    return rooms | {path.name for path in folder.glob("*.py") if path.name != "__init__.py"}


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_room_and_root_file_of_a_package_has_its_line(folder: str) -> None:
    assert entries(ROOT / folder) == MAP[folder].keys()


def test_every_folder_of_the_project_that_the_map_names_is_there() -> None:
    assert [folder for folder in MAP if not (ROOT / folder).is_dir()] == []


@pytest.mark.parametrize(("folder", "room"), [(folder, room) for folder in MAP for room in MAP[folder] if room.endswith("/")])
def test_every_file_that_a_line_names_is_in_its_room(folder: str, room: str) -> None:
    names = re.findall(r"\w+(?:\.py\b|/)", MAP[folder][room])
    outside = {"docs/"}  # where the tests of the pages say what they test
    assert [name for name in names if name not in outside and not (ROOT / folder / room / name).exists()] == []


def test_tests_stand_in_rooms_of_what_they_test() -> None:
    rooms = {f"{path.name}/" for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= MAP["tests/"].keys() | MAP["src/mpvit/"].keys()
    assert MAP["tests/"].keys() <= rooms


def modules_in(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that a file imports: at its top, in functions, for types, and as "module:object" in a registry."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"mpvit(_cli)?(\.\w+)*:\w+", str(node.value)):
            yield str(node.value).partition(":")[0]


def imported(file: Path, package: str) -> Iterator[str]:
    """Yield the rooms and root files of ``package`` that ``file`` imports; every other name is its ``__init__.py``'s."""
    entries_by_name = {entry.removesuffix("/").removesuffix(".py"): entry for entry in MAP[package]}
    for module in modules_in(ast.parse(file.read_text(encoding="utf-8"))):
        top, _, rest = module.partition(".")
        if top == Path(package).name:
            yield entries_by_name.get(rest.partition(".")[0], "__init__.py")


def test_no_import_is_relative_and_the_library_knows_no_command_line() -> None:
    """The tests below would miss the first kind."""
    modules = {
        (str(file.relative_to(ROOT)), module)
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for module in modules_in(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert len(modules) > 1000
    assert [found for found in modules if found[1].startswith(".")] == []
    assert [found for found in modules if found[0].startswith("src/") and found[1].startswith("mpvit_cli")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_downwards(package: str) -> None:
    """The ``__init__.py`` of a package is on top: it may import every room, and no room imports it."""
    order = ["__init__.py", *MAP[package]]
    upwards = [
        f"{file.relative_to(ROOT)} imports {target}"
        for place, entry in enumerate(order)
        for file in ([ROOT / package / entry] if entry.endswith(".py") else sorted((ROOT / package / entry).rglob("*.py")))
        for target in imported(file, package)
        if order.index(target) < place
    ]
    assert upwards == []


def test_what_stands_below_the_model_loads_without_torch() -> None:
    order = list(MAP["src/mpvit/"])
    light = [ROOT / "src" / "mpvit" / entry for entry in order[order.index("model/") + 1 :]]
    files = [file for path in light for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    assert len(files) > len(light)
    assert [str(file.relative_to(ROOT)) for file in files if loaded(file) & HEAVY] == []


def loaded(file: Path) -> set[str]:
    """Return the packages that a module imports as it is loaded."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("room", sorted((ROOT / "src" / "mpvit").rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_no_room_gives_a_name_that_one_of_its_files_has(room: Path) -> None:
    """Importing the file would put it in the name's place."""
    tree = ast.parse(room.read_text(encoding="utf-8"))
    given = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    given |= {name.asname or name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}
    beside = {path.stem for path in room.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
    from_files = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    here = ".".join(room.parent.relative_to(ROOT / "src").parts)
    assert {name for name in given & beside if here not in from_files} == set()
