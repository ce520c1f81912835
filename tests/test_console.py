"""What commands print."""

import pytest

from avfeat.console import align, errors_to_exit
from avfeat.errors import ManifestError


def test_an_error_of_ours_is_one_line_on_stderr_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, errors_to_exit():
        raise ManifestError("Two clips  are one.\n  Drop one.")
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", "ManifestError: Two clips  are one. Drop one.\n")


def test_an_error_in_our_code_stays_an_error() -> None:
    with pytest.raises(ZeroDivisionError), errors_to_exit():
        raise ZeroDivisionError


def test_columns_are_aligned_numbers_at_their_end() -> None:
    assert align([("clips", 1234567, "a"), ("no", 1, "")]) == "clips  1 234 567  a\nno             1"
