"""How far each property that has nothing to do with forgery tells real from fake all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS = {
    "leading_silence_seconds": ("leading silence", "s"),
    "duration_seconds": ("duration", "s"),
    "fps": ("frame rate", "1/s"),
    "pixels": ("picture size", "pixels"),
    "bitrate_kbps": ("bitrate", "kbit/s"),
    "loudness_db": ("loudness", "dB"),
    "length_difference_seconds": ("sound longer than pictures", "s"),
    "audio_rate_hz": ("sampling rate", "Hz"),
    "video_codec": ("video codec", ""),
    "audio_codec": ("audio codec", ""),
    "container": ("container", ""),
    "sound": ("has sound", ""),
}
"""Measure to how it is called and its unit."""

SHORTCUT_AUC = 0.6
SHORTCUT_P = 0.01
LEAST_CLIPS = 5
"""Of each class: below that nothing can be told."""


@dataclass(frozen=True)
class Nuisance:
    """One property against the label.

    auc: of the property alone as a score, with the other sign where reals have more, so never below 0.5; for names
        (codecs) the score of a clip is the share of fakes among the clips of the same name.
    more: who has more of it, real or fake; empty for names.
    real, fake: the median; for names the most common and its share.
    p_value: that so much would come by chance (Mann-Whitney; chi-square for names), times the number of properties.
    shortcut: whether a classifier could live on it: AUC at least 0.6 and p below 0.01.
    """

    measure: str
    name: str
    unit: str
    clips: int
    real: str
    fake: str
    auc: float
    more: str
    p_value: float
    shortcut: bool


def nuisances(values: Mapping[str, Sequence[Any]], labels: Sequence[int | None]) -> list[Nuisance]:
    """Compare each measure between real and fake clips, those that tell most first; clips without label count not.

    A measure that is the same for all clips, or known of fewer than 5 of either class, is left out.

    Args:
        values: for each measure its values, None unknown.
        labels: 0 real, 1 fake, None unknown.
    """
    found = []
    for measure, column in values.items():
        known = [(value, label) for value, label in zip(column, labels, strict=True) if None not in (value, label)]
        classes = Counter(label for _, label in known)
        if len({value for value, _ in known}) < 2 or min(classes[0], classes[1]) < LEAST_CLIPS:
            continue
        split = ([value for value, label in known if label == each] for each in (0, 1))
        found.append(_of_names(measure, *split) if isinstance(known[0][0], str) else _of_numbers(measure, *split))
    corrected = [_corrected(each, len(found)) for each in found]
    return sorted(corrected, key=lambda each: (-each.auc, each.name))


def auc_of(real: NDArray[Any], fake: NDArray[Any]) -> float:
    """Return the probability that a fake has more than a real one, ties counting half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([real, fake]))
    pairs = len(real) * len(fake)
    return float((ranks[len(real) :].sum() - len(fake) * (len(fake) + 1) / 2) / pairs)


def _of_numbers(measure: str, real: Sequence[float], fake: Sequence[float]) -> Nuisance:
    from scipy.stats import mannwhitneyu

    first, second = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    auc = auc_of(first, second)
    p_value = float(mannwhitneyu(first, second, method="asymptotic").pvalue)
    name, unit = WORDS[measure]
    medians = (f"{np.median(first):.4g}", f"{np.median(second):.4g}")
    more = "fake" if auc > 0.5 else "real"
    return Nuisance(measure, name, unit, len(first) + len(second), *medians, max(auc, 1 - auc), more, p_value, False)


def _of_names(measure: str, real: Sequence[str], fake: Sequence[str]) -> Nuisance:
    from scipy.stats import chi2_contingency

    counts = (Counter(real), Counter(fake))
    share = {name: counts[1][name] / (counts[0][name] + counts[1][name]) for name in counts[0] | counts[1]}
    auc = auc_of(np.array([share[name] for name in real]), np.array([share[name] for name in fake]))
    p_value = float(chi2_contingency([[count[name] for name in share] for count in counts]).pvalue)
    common = (_most_common(counts[0], len(real)), _most_common(counts[1], len(fake)))
    name, unit = WORDS[measure]
    return Nuisance(measure, name, unit, len(real) + len(fake), *common, auc, "", p_value, False)


def _most_common(count: Counter[str], clips: int) -> str:
    name, times = count.most_common(1)[0]
    return f"{name} ({100 * times / clips:.0f} %)"


def _corrected(each: Nuisance, tests: int) -> Nuisance:
    p_value = min(each.p_value * tests, 1.0)
    return replace(each, p_value=p_value, shortcut=each.auc >= SHORTCUT_AUC and p_value < SHORTCUT_P)
