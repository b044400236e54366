import ast
import subprocess
import sys
from pathlib import Path

import pytest

import latentia
from latentia.extras import require

SOURCE = Path(latentia.__file__).parent


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "lightning", "sklearn", "pandas", "plotly", "scipy"]
    assert run(f"import sys, latentia; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_atom_modeling_loads_no_trainer() -> None:
    code = "import sys, latentia.separation; print({'lightning', 'transformers', 'accelerate'} & set(sys.modules))"
    assert run(code) == "set()"


def test_the_command_line_shows_its_help_without_pytorch() -> None:
    code = "import sys, latentia.cli; print('torch' in sys.modules)"
    assert run(code) == "False"


def test_names_come_when_they_are_asked_for() -> None:
    # The package's `capture` must stay the function, whoever imports what.
    assert run(
        "import latentia.separation, latentia; print(callable(latentia.capture), latentia.Latents.__name__)"
    ) == ("True Latents")
    assert set(latentia.__all__) <= set(dir(latentia))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = latentia.nothing


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(ImportError, match=r"no_such_module.part is not installed.*pip install 'latentia\[report\]'"):
        require("no_such_module.part", "report")
    assert require("json.decoder", "report").JSONDecoder


def test_a_module_that_fails_inside_is_not_reported_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as caught:
        require("broken_module", "report")
    assert "latentia[" not in str(caught.value)


# What may import what, lowest first: a package may import those of lower floors, and itself.
FLOORS = [
    {"extras", "modes"},
    {"latents"},
    {"evaluation"},
    {"capturing", "data", "metrics"},
    {"layers"},
    {"training"},
    {"alignment", "dictionaries", "separation"},
    {"claims", "report"},
    {"cli"},
]


def test_imports_run_downwards_only() -> None:
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for file in SOURCE.rglob("*.py"):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        assert parts[0] in floor, f"{parts[0]} has no floor in this test yet"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.startswith("latentia."):
                    target = name.split(".")[1]
                    allowed = target == parts[0] or floor[target] < floor[parts[0]]
                    assert allowed, f"{file.relative_to(SOURCE)} imports {name}, which does not lie below it"
