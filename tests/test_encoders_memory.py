"""What an encoder keeps of a clip on its way: what it reads, and nothing that others read."""

import gc
import weakref
from collections.abc import Sequence

import numpy as np

from avfeat.encoders import build_encoder, resolve
from avfeat.encoders.base import ClipEncoder, FeatureName, Rows
from avfeat.views import FRAME, MOUTH, View, Views


def test_pictures_that_only_other_encoders_read_are_let_go() -> None:
    encoding = build_encoder(resolve(["logmel"])[0]).begin()
    pictures = np.zeros((3, 224, 224, 3), np.uint8)
    kept = weakref.ref(pictures)
    encoding.take(Views(0, {FRAME: pictures}))
    del pictures
    gc.collect()
    assert kept() is None
    encoding.take(Views(3, {}, np.ones(640, np.float32)))
    assert encoding.finish([FeatureName("logmel")])[FeatureName("logmel")].shape == (1, 104)


class Corners(ClipEncoder):
    """Gives the first pixel of each mouth, and reads nothing else."""

    def reads(self) -> frozenset[View]:
        return frozenset({MOUTH})

    def encode(self, views: Views, wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        assert views.start == 0 and list(views.pictures) == [MOUTH]
        return {name: views.pictures[MOUTH][:, 0, :1].astype(np.float32) for name in wanted}


def test_pictures_that_it_reads_are_all_there_at_the_end_in_order() -> None:
    encoding, name = Corners().begin(), FeatureName("corners")
    for start in (0, 2):
        mouths = np.full((2, 4, 4), start, np.uint8)
        encoding.take(Views(start, {MOUTH: mouths, FRAME: np.zeros((2, 2, 2, 3), np.uint8)}))
    encoding.take(Views(0, {}, np.ones(5, np.float32)))
    assert encoding.finish([name])[name].ravel().tolist() == [0, 0, 2, 2]
