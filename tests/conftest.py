"""Fixtures that every test file may use."""

from pathlib import Path
from shutil import which

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs ../shared or a browser where there is none: deselected, and counted as such."""
    missing = {
        name for name, there in {"shared": SHARED.is_dir(), "browser": any(map(which, BROWSERS))}.items() if not there
    }
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in missing)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, golden tensors and metadata beside the checkout."""
    return SHARED


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium on this machine."""
    return next(filter(None, map(which, BROWSERS)))
