"""How often molecules blink, bleach and are missed, from how long tracks went without a spot.

After a spot that was linked, a molecule is on; from frame to frame it is lost with p_bleach, else
goes dark with p_off or returns with p_on, and while on it is found with p_detect. What is seen of
this are gaps: L frames without it and then a spot again, or L frames without it until the track was
given up. Both are counted; the four probabilities are those under which such counts are likely, by
expectation and maximisation over the hidden states of all gaps of a length at once, with a prior
of so many events as if seen before. A track that was given up says no more than that: not seen in
L frames.

Symbols: ``gaps[0, L]`` ended by a spot, ``gaps[1, L]`` not; ``rates = (p_detect, p_off, p_on,
p_bleach)``; forward ``seen[t] = (on, off)``: the state after t frames without a spot, and these.
"""

import numpy as np

from livespt.jit import inlined, kernel
from livespt.link.bank import F8

DETECT, OFF, ON, BLEACH = range(4)
#: What the rates may come to. A molecule that is dark for one frame alone cannot be told from one
#: that was missed, and is taken for that; to believe that all return at once would moreover give
#: tracks up before they could show that it is not so.
LEAST = np.array([0.3, 1e-4, 0.01, 1e-4])
MOST = np.array([0.999, 0.5, 0.6, 0.3])


@kernel
def relearn(gaps: F8, prior: F8, events: F8, rounds: int, rates: F8) -> None:
    """Bring the rates nearer to the most probable ones, in place, in `rounds` rounds.

    Parameters
    ----------
    gaps : (2, n)
    prior, events : (4,)
        Rates assumed, and so many events in which they were as if seen; infinitely many fix one.
    rates : (4,)
    """
    n = gaps.shape[1]
    seen, back = np.zeros((n, 2)), np.zeros((n, 2))
    yes, no = np.zeros(4), np.zeros(4)
    for _ in range(rounds):
        go_forward(rates, seen)
        yes[:], no[:] = 0.0, 0.0
        for gap in range(n):
            for ended in range(2):
                if gaps[ended, gap] > 0.0 and (ended == 0 or gap > 0):
                    count_gap(rates, seen, back, gap, ended == 0, gaps[ended, gap], yes, no)
        for r in range(4):
            if events[r] < np.inf:
                p = (events[r] * prior[r] + yes[r]) / (events[r] + yes[r] + no[r])
                rates[r] = min(max(p, LEAST[r]), MOST[r])


@inlined
def go_forward(rates: F8, seen: F8) -> None:
    """Fill the probability of being on or off, and not seen in any frame since the last spot."""
    on, off, stay = 1.0, 0.0, 1.0 - rates[BLEACH]
    for t in range(seen.shape[0]):
        seen[t, 0], seen[t, 1] = on, off
        lit = stay * (on * (1.0 - rates[OFF]) + off * rates[ON])
        off = stay * (on * rates[OFF] + off * (1.0 - rates[ON]))
        on = lit * (1.0 - rates[DETECT])


@inlined
def count_gap(
    rates: F8, seen: F8, back: F8, gap: int, found: bool, weight: float, yes: F8, no: F8
) -> None:
    """Add what `weight` gaps of one length say: how often each event came, and did not."""
    missed, p_off, p_on = 1.0 - rates[DETECT], rates[OFF], rates[ON]
    p_lost = rates[BLEACH]
    stay = 1.0 - p_lost
    after = 0.0 if found else 1.0  # of the future, once it is lost
    if found:
        last = stay * rates[DETECT]
        back[gap, 0], back[gap, 1] = last * (1.0 - p_off), last * p_on
    else:
        back[gap, 0], back[gap, 1] = 1.0, 1.0
    for t in range(gap - 1, -1, -1):
        lit, dark = missed * back[t + 1, 0], back[t + 1, 1]
        back[t, 0] = stay * ((1.0 - p_off) * lit + p_off * dark) + p_lost * after
        back[t, 1] = stay * (p_on * lit + (1.0 - p_on) * dark) + p_lost * after
    scale = weight / back[0, 0]
    for t in range(gap):
        on, off = scale * seen[t, 0], scale * seen[t, 1]
        lit, dark = stay * missed * back[t + 1, 0], stay * back[t + 1, 1]
        stays, goes = on * (1.0 - p_off) * lit, on * p_off * dark
        comes, waits = off * p_on * lit, off * (1.0 - p_on) * dark
        no[DETECT] += stays + comes
        no[OFF] += stays
        yes[OFF] += goes
        yes[ON] += comes
        no[ON] += waits
        no[BLEACH] += stays + goes + comes + waits
        yes[BLEACH] += (on + off) * p_lost * after
    if found:
        last = scale * stay * rates[DETECT]
        stays, comes = last * seen[gap, 0] * (1.0 - p_off), last * seen[gap, 1] * p_on
        yes[DETECT] += stays + comes
        no[OFF] += stays
        yes[ON] += comes
        no[BLEACH] += stays + comes
