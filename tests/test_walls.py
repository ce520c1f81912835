"""The walls between the rooms: who may import what, and how quickly the commands answer."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ONLY_IN = {
    "zarr": "avfeat/store",
    "av": "avfeat/clip",
    "ffmpeg": "avfeat/media",
    "imageio_ffmpeg": "avfeat/media",
    "mediapipe": "avfeat/landmarks",
    "dlib": "avfeat/landmarks",
    "distributed": "avfeat/cluster",
}

HEAVY = {
    *("torch", "transformers", "mediapipe", "av", "sklearn", "zarr", "scipy", "matplotlib", "dask", "numpy"),
    "rich.console",
}


def _imports() -> Iterator[tuple[str, str]]:
    for path in [*ROOT.glob("avfeat/**/*.py"), *ROOT.glob("probes/**/*.py"), *ROOT.glob("demo/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield str(path.relative_to(ROOT)), alias.name
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield str(path.relative_to(ROOT)), node.module


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_in_its_own_room_only(library: str) -> None:
    outside = [
        file for file, module in _imports() if module.split(".")[0] == library and not file.startswith(ONLY_IN[library])
    ]
    assert outside == []


def test_probes_never_reach_into_the_encoders() -> None:
    assert [
        (file, module)
        for file, module in _imports()
        if file.startswith("probes/") and module.startswith(("avfeat.encoders", "avfeat.store_"))
    ] == []


def test_avfeat_never_imports_probes() -> None:
    assert [file for file, module in _imports() if file.startswith("avfeat/") and module.startswith("probes")] == []


@pytest.mark.parametrize("package", ["avfeat", "probes"])
def test_help_does_not_load_the_heavy_libraries(package: str) -> None:
    code = (
        f"import sys; from typer.testing import CliRunner; from {package}.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"
