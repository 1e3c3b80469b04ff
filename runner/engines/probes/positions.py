"""Which positions of a long sequence a reference keeps: those that say most about an error.

A short sequence keeps all of them. The choice is deterministic, and it is stored with the
reference, so that a candidate is compared at the same positions.
"""

import itertools

import numpy as np
import numpy.typing as npt

#: A sequence keeps at most this many positions: its cost is then the same for every length.
MOST = 192
#: Positions at each end. The start shows a wrong BOS or a wrong first chunk, the end the longest
#: distance.
_ENDS = 24
#: Positions at equal distances, so that growth with the distance shows.
_SPREAD = 48
#: From this border on, the row before, at and after each power of two is kept: windows, blocks and
#: chunks end there.
_LEAST_BORDER = 16


def informative(entropy: npt.NDArray[np.float64]) -> list[int] | None:
    """Return the positions to keep of a sequence with this ``entropy`` [n] in nats; None for all.

    What the fixed choices leave is filled with the least and the most certain positions in turn: a
    peaked distribution shows a shifted logit, a flat one shows noise.
    """
    n = len(entropy)
    if n <= MOST:
        return None
    chosen = {*range(_ENDS), *range(n - _ENDS, n)}
    chosen |= {round(place) for place in np.linspace(0, n - 1, _SPREAD).tolist()}
    border = _LEAST_BORDER
    while border < n:
        chosen |= {border - 1, border, min(border + 1, n - 1)}
        border *= 2
    # A stable sort, and entropy in steps: equal inputs in another arithmetic choose alike.
    order = np.argsort(np.round(np.nan_to_num(entropy), 3), kind="stable").tolist()
    for place in itertools.chain.from_iterable(zip(order, order[::-1], strict=True)):
        if len(chosen) == MOST:
            break
        chosen.add(place)
    return sorted(chosen)
