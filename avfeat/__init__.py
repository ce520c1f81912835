"""avfeat: frozen audio-visual features of talking-face videos, extracted once and stored whole.

>>> store = avfeat.open_store("store")
>>> rows = store["mine"]["xlsr-300m"].clip("some/clip")

Names are loaded when they are first used, so that importing avfeat costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avfeat.encoders import lacking
    from avfeat.errors import AvfeatError
    from avfeat.files import encode_files
    from avfeat.manifest import Manifest
    from avfeat.options import Options
    from avfeat.patches import PatchExplainer
    from avfeat.previews import preview
    from avfeat.store import open_store

_HOMES = {
    "AvfeatError": "avfeat.errors",
    "Manifest": "avfeat.manifest",
    "Options": "avfeat.options",
    "PatchExplainer": "avfeat.patches",
    "encode_files": "avfeat.files",
    "lacking": "avfeat.encoders",
    "open_store": "avfeat.store",
    "preview": "avfeat.previews",
}

__all__ = ["AvfeatError", "Manifest", "Options", "PatchExplainer", "encode_files", "lacking", "open_store", "preview"]


def __getattr__(name: str) -> Any:
    """Load a public name from its room."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'avfeat' has no attribute {name!r}")
