import pytest

from avfeat.encoders.base import FeatureName
from avfeat.errors import EncoderError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("logmel", FeatureName("logmel")),
        ("avhubert-large.av", FeatureName("avhubert-large", "av")),
        ("xlsr-2b@9", FeatureName("xlsr-2b", "", 9)),
        ("avhubert-large-random.a@12", FeatureName("avhubert-large-random", "a", 12)),
    ],
)
def test_a_name_is_read_as_written_and_written_as_read(text: str, name: FeatureName) -> None:
    assert FeatureName.parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize("text", ["", "A", "x@", "x.", "x@last", "../x", "x/y", "x.a.b"])
def test_another_form_is_refused_by_name(text: str) -> None:
    with pytest.raises(EncoderError, match="feature name"):
        FeatureName.parse(text)
