"""The page on the format is enough: its own code reads what we write, with zarr and pyarrow alone."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from store_making import FEATURE, feature_of, manifest_of, rows_of, write

from avfeat.errors import NoFaceError
from avfeat.store_layout import INDEX_SCHEMA

PAGE = Path(__file__).resolve().parents[1] / "docs" / "format.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def page() -> dict[str, Any]:
    """What the code of the page defines."""
    names: dict[str, Any] = {}
    (block,) = CODE
    exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.mark.parametrize(("dtype", "codec"), [("float16", "none"), ("float32", "zstd")])
def test_the_code_of_the_page_reads_the_same_as_we_do(
    tmp_path: Path, page: dict[str, Any], dtype: str, codec: str
) -> None:
    write(tmp_path, manifest_of(10), dtype=dtype, codec=codec)
    feature = feature_of(tmp_path)
    for attempt, clip in ((2, "early"), (12, "again")):
        with feature.part_writer(1, attempt) as writer:
            writer.add("c005", rows_of(clip, 30), {"first_seconds": 0.5})
            writer.fail("c004", NoFaceError("not this time."), {})
            writer.commit()
    with feature.part_writer(1, 13) as writer:
        writer.fail("c005", NoFaceError("not this time."), {})
        writer.commit()
    feature.refresh()
    rows, failures = page["read_feature"](str(feature.path))
    for clip in feature.index().to_pylist():
        clip_id = clip["clip_id"]
        assert (clip_id in rows) == (clip_id not in failures) == (clip["status"] != "failed")
        if clip_id in rows:
            assert rows[clip_id].dtype == dtype
            assert np.array_equal(rows[clip_id], feature.clip(clip_id))
    assert np.array_equal(rows["c005"], rows_of("again", 30).astype(dtype))
    again = next(clip for clip in feature.index().to_pylist() if clip["clip_id"] == "c005")
    assert page["times_seconds"](str(feature.path), again)[:2] == [0.5, 0.54]
    assert failures == {}


def test_the_code_of_the_page_tells_why_a_clip_failed(tmp_path: Path, page: dict[str, Any]) -> None:
    write(tmp_path, manifest_of(6))
    _, failures = page["read_feature"](feature_of(tmp_path).path)
    assert failures == {"c005": "NoFace: c005: no face."}


def test_the_code_of_the_page_needs_nothing_of_ours() -> None:
    code = CODE[0] + "\nimport sys\nprint([name for name in sys.modules if name.startswith('avfeat')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_names_every_column_and_every_attribute(tmp_path: Path) -> None:
    write(tmp_path, manifest_of(3))
    text = PAGE.read_text()
    part = feature_of(tmp_path).path / "part-00000"
    assert pq.read_schema(part / "index.parquet").equals(INDEX_SCHEMA)
    for name in INDEX_SCHEMA.names:
        assert re.search(rf"^\| [^|]*\b{name}\b", text, re.MULTILINE), name
    for folder in (part, part.parent, part.parent.parent, tmp_path):
        for name in json.loads((folder / "zarr.json").read_text())["attributes"]:
            assert f"`{name}`" in text, name


def test_zarr_python_opens_the_whole_store_as_one_hierarchy(tmp_path: Path) -> None:
    write(tmp_path, manifest_of(4))
    key = manifest_of(4).key
    root = zarr.open_group(str(tmp_path), mode="r")
    assert root.attrs["format"] == 1
    assert root[key].attrs["part_clips"] == 3
    array = root[f"{key}/{FEATURE}/part-00001/frames"]
    assert np.array_equal(array[: len(rows_of("c003"))], rows_of("c003").astype(np.float16))
