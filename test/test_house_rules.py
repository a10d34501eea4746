# SPDX-License-Identifier: Apache-2.0
"""The architecture, as tests: which way imports go, how large a file may be, what may not occur anywhere."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "egs/captionstew/ALP"
FLOORS = {"config": 0, "utils": 0, "data": 1, "models": 1, "objectives": 2, "training": 3, "evaluation": 4}
SIBLINGS = ({"data", "models"},)
_LISTING = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
TRACKED = subprocess.run(_LISTING, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
TRACKED = [ROOT / name for name in TRACKED if (ROOT / name).exists()]
PYTHON = [path for path in TRACKED if path.suffix == ".py"]
LIBRARY = [path for path in PYTHON if path.is_relative_to(ROOT / "icefall_alp")]
CODE = [path for path in PYTHON if not path.is_relative_to(ROOT / "test")]
SHELL = [path for path in TRACKED if path.suffix == ".sh" or path.name in ("run", "corpora.sh.example")]


def relative(path):
    return str(path.relative_to(ROOT))


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(paths, pattern):
    found = []
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        found += [
            f"{relative(path)}:{i}: {line.strip()}" for i, line in enumerate(lines, 1) if re.search(pattern, line)
        ]
    return found


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_imports_follow_the_floors(path):
    parts = path.relative_to(ROOT / "icefall_alp").parts
    for name in imports_of(path):
        assert not name.startswith(("egs", "tools", "test")), f"{relative(path)} imports {name}"
        if not name.startswith("icefall_alp.") or parts[0] not in FLOORS:
            continue
        floor = name.split(".")[1]
        assert floor in FLOORS, f"{relative(path)} imports {name}"
        assert FLOORS[floor] <= FLOORS[parts[0]], f"{relative(path)} imports {name} from a floor above"
        assert floor == parts[0] or {floor, parts[0]} not in SIBLINGS, f"{relative(path)} imports its sibling {name}"
        if parts[0] == "training" and floor == "objectives":
            assert name.startswith("icefall_alp.objectives.base"), f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_files_and_functions_stay_small(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 400, f"{len(lines)} lines"
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno + 1 <= 60, f"{node.name}: {node.end_lineno - node.lineno + 1} lines"


@pytest.mark.parametrize("path", sorted((RECIPE / "zipformer").glob("*.py")), ids=relative)
def test_recipe_scripts_are_wiring(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 60
    assert not [n for n in ast.walk(tree) if isinstance(n, (ast.ClassDef, ast.For, ast.While, ast.AsyncFor))]


@pytest.mark.parametrize("path", sorted((RECIPE / "local").glob("prepare_*.py")), ids=relative)
def test_preparation_scripts_are_short(path):
    assert len(path.read_text().splitlines()) <= 120


def test_run_sh_is_short_and_every_stage_has_its_comment():
    text = (RECIPE / "run.sh").read_text()
    assert len(text.splitlines()) <= 160
    assert re.findall(r"^stage_(\d)\(\) \{ # \S", text, re.MULTILINE) == list("0123456789")


@pytest.mark.parametrize("path", [p for p in CODE if p.read_text().strip()], ids=relative)
def test_every_module_says_what_it_is(path):
    assert path.read_text().splitlines()[0].startswith(("# SPDX", "#!/"))
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


def test_every_library_module_has_its_mirrored_test():
    missing = []
    for path in LIBRARY:
        inside = path.relative_to(ROOT / "icefall_alp")
        if path.name != "__init__.py" and not (ROOT / "test" / inside.parent / f"test_{path.name}").exists():
            missing.append(relative(path))
    assert not missing


def test_no_symlink_and_no_large_file():
    assert not [relative(path) for path in TRACKED if path.is_symlink()]
    assert not [relative(path) for path in TRACKED if path.stat().st_size > 1 << 20]


def test_no_absolute_path():
    texts = [p for p in TRACKED if p.suffix in (".py", ".sh", ".yaml", ".md", ".txt", ".yml") and p != Path(__file__)]
    assert not offenders(texts, r"(?<![\w.$}/\"'-])/(home|mnt|data|fsx|work|root|scratch|media|Users)/")


def test_forbidden_constructs_do_not_occur():
    assert not offenders(CODE, r"strict=False|except:|except Exception: *pass|shell=True|os\.system\(")
    assert not offenders(CODE, r"import pickle|\bpickle\.|(?<![.\w])eval\(")


def test_torch_load_and_save_stay_in_their_rooms():
    rooms = {"icefall_alp/training/checkpoint.py", "icefall_alp/models/encoder_files.py"}
    rooms.add("tools/benchmarks/checkpoint.py")  # the baseline
    found = [line for line in offenders(CODE, r"torch\.(load|save)\(") if line.split(":")[0] not in rooms]
    assert not found
    assert not [line for line in offenders(CODE, r"torch\.load\(") if "weights_only=True" not in line]


def test_only_one_file_knows_cuda():
    found = offenders(CODE, r"[\"']cuda|\.cuda\(")
    rooms = {"icefall_alp/utils/distributed.py", "tools/benchmarks/kernels.py"}  # what a compiler compiles for
    assert {line.split(":")[0] for line in found} <= rooms


def test_k2_is_never_required():
    assert not [relative(p) for p in CODE if any(name.split(".")[0] == "k2" for name in imports_of(p))]


def test_preparation_scripts_and_corpora_yaml_name_the_same_corpora():
    scripts = {p.stem.removeprefix("prepare_") for p in (RECIPE / "local").glob("prepare_*.py")}
    rows = {conf: set(yaml.safe_load((RECIPE / conf / "corpora.yaml").read_text())) for conf in ("conf", "conf/mini")}
    assert rows["conf"] == scripts and rows["conf/mini"] <= scripts
    roots = (ROOT / "local/corpora.sh.example").read_text()
    assert set(re.findall(r"^  (\w+)=", roots, re.MULTILINE)) == scripts
    for name in scripts:
        card = ast.get_docstring(ast.parse((RECIPE / f"local/prepare_{name}.py").read_text()))
        assert not [word for word in ("Source", "Licence", "Layout", "Expected") if word not in card], name


def test_configurations_have_their_script_their_twin_and_their_header():
    names = {p.stem for p in (RECIPE / "conf").glob("train_*.yaml")}
    assert names == {p.stem for p in (RECIPE / "zipformer").glob("train_*.py")}
    for path in [*(RECIPE / "conf").glob("train_*.yaml"), *(RECIPE / "conf/tasks").rglob("*.yaml")]:
        twin = RECIPE / "conf/mini" / path.relative_to(RECIPE / "conf")
        assert twin.exists(), f"{relative(path)} has no twin in conf/mini"
        for file in (path, twin):
            header = [line for line in file.read_text().splitlines() if line.startswith("#")]
            assert not [w for w in ("Command:", "Cost:", "Expected:") if not any(w in line for line in header)], file
            assert len(file.read_text().splitlines()) <= 40, file


def test_shell_is_clean():
    shellcheck = Path(sys.executable).parent / "shellcheck"
    result = subprocess.run([shellcheck, "-x", *SHELL], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_readme_is_short_and_its_files_exist():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 160
    for link in re.findall(r"\]\((?!http|#)([^)#]+)\)", text):
        assert (ROOT / link).exists(), link
