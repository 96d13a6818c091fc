"""How sure a mean is: Student's t over seeds, tests of paired differences and their correction, a bootstrap over rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
_SEED = 0


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; low and high are None where n is 1."""

    mean: float
    low: float | None
    high: float | None
    n: int


def t_interval(values: Sequence[float], *, least_deviation: float = 0.0) -> Interval:
    """Mean of values, n > 0, and Student's t interval of it: mean +- t * s / sqrt(n), s the sample standard deviation.

    least_deviation: what s counts for at least, for values that come in steps, whose spread may vanish by chance.
    """
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Interval(mean, None, None, n)
    half = t_half_width(max(statistics.stdev(values), least_deviation), n)
    return Interval(mean, mean - half, mean + half, n)


def t_half_width(deviation: float, n: int) -> float:
    """How far the t interval of a mean reaches to either side; deviation: of the sample, n > 1."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * deviation / math.sqrt(n)


def difference_p(differences: Sequence[float], *, least_deviation: float = 0.0) -> float:
    """Two-sided p-value of the paired t-test: that the mean of two or more differences is 0.

    Without spread, it is 0, or 1 where the mean is 0. least_deviation: as of `t_interval`.
    """
    mean, error = _mean_and_error(differences, least_deviation)
    if error == 0:
        return float(mean == 0)
    from scipy.special import stdtr

    return 2 * float(stdtr(len(differences) - 1, -abs(mean) / error))


def equivalence_p(differences: Sequence[float], *, margin: float, least_deviation: float = 0.0) -> float:
    """Twice the p-value of two one-sided t-tests: that the mean of two or more differences is margin or more from 0.

    Schuirmann 1987, J. Pharmacokinet. Biopharm. 15. Twice, so that it is at most 0.05 exactly where the 95 % t interval
    lies within the margin (alone, the test asks this of the 90 % one); at most 1.
    """
    mean, error = _mean_and_error(differences, least_deviation)
    if error == 0:
        return float(abs(mean) > margin)
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(len(differences) - 1, (abs(mean) - margin) / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: of all that are at most alpha, any is wrong with a probability of alpha at most.

    Holm 1979, Scand. J. Stat. 6: the i-th smallest of m times m - i + 1, never below the one before it, at most 1.
    Holds whatever the dependence between the tests, which here share their reference.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[at]))
        corrected[at] = highest
    return corrected


def bootstrap_interval(totals: NDArray[np.int64], *, runs: int, resamples: int = RESAMPLES) -> Interval:
    """Percentile interval of a mean difference over test rows, the rows drawn again with replacement.

    Efron 1979, Ann. Stat. 7. totals (R,) whole numbers: on each row, the sum over the pairs of runs of (right - reference
    right); runs: how many pairs. So every pair sees the same draw. A draw of R rows counts only how often each of the few
    values of `totals` came, and those counts are multinomial: they are drawn at once. The same rows give the same interval.
    """
    import numpy as np

    values, counts = np.unique(totals, return_counts=True)
    rows = len(totals)
    drawn = np.random.default_rng(_SEED).multinomial(rows, counts / rows, size=resamples)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn @ values / (rows * runs), [tail, 1 - tail])
    return Interval(float(totals.mean() / runs), float(low), float(high), rows)


def _mean_and_error(values: Sequence[float], least_deviation: float) -> tuple[float, float]:
    deviation = max(statistics.stdev(values), least_deviation)
    return statistics.fmean(values), deviation / math.sqrt(len(values))
