"""Kernels of what the linker learns as it goes; see `livespt.link.learn`.

Symbols: ``figures`` are running sums in the order of the names below. `AREA` is 0 where the field
is not known; then its corners are those of the spots seen so far.
"""

import math

from livespt.jit import inlined, kernel
from livespt.link.bank import F8, Learned, Motion
from livespt.link.life_kernels import relearn

(
    NEW, NEW_FRAMES, SPOTS, FRAMES, STEPS, GAPS, SEEN, LEARNS, AREA, X0, Y0, X1, Y1, N_FIGURES
) = range(14)  # fmt: skip
#: Longest gap that is counted; gaps kept before half of them is forgotten; news that are worth
#: another look, as a share of what was known; rounds of one look.
MOST_GAP, MOST_GAPS, LIFE_NEWS, LIFE_ROUNDS = 31, 1e5, 0.25, 10
#: Most and least share that one frame forgets of the density of new spots.
FORGET_MOST, FORGET_LEAST = 1 / 50, 1 / 500
#: Most share that one frame forgets of the switching: it is slow to change.
FORGET_MOTION = 1 / 500
#: So much news has to come in before the old may be forgotten: switching steps, new spots.
MEMORY_STEPS, MEMORY_NEW = 5000.0, 20.0
#: Prior counts: steps per mode, frames of density.
PRIOR_STEPS, PRIOR_FRAMES = 10.0, 3.0
#: Share of spots that are new before anything is learned, and share of these that are real: low
#: enough that a stray is given up after one frame without it.
NEW_SHARE, REAL_SHARE = 0.1, 0.4
#: Least share of the spots that is taken to be new, whatever the counts say.
LEAST_SHARE = 0.01
#: Least extent that an unknown field is taken to have.
LEAST_FIELD_UM = 10.0
#: No mode is ruled out for good.
LEAST_P = 1e-4
#: Least number of new spots a frame that is expected of an empty field.
LEAST_NEW = 0.02
#: Frames between two looks at the switching counts.
REFRESH = 8


@inlined
def n_learned(n_modes: int) -> int:
    """Return how many numbers `learned_of` takes."""
    return 2 * n_modes + 3 * n_modes * n_modes + 2 * (MOST_GAP + 1) + 14 + N_FIGURES


@inlined
def learned_of(block: F8, n_modes: int) -> Learned:
    """Cut out the parts of what is learned."""
    k, kk, g = n_modes, n_modes * n_modes, 2 * (MOST_GAP + 1)
    a = 2 * k + 3 * kk
    b = a + g
    return Learned(
        D_um2_s=block[:k],
        transition=block[2 * k : 2 * k + kk].reshape((k, k)),
        occupancy=block[k : 2 * k],
        counts=block[2 * k + kk : 2 * k + 2 * kk].reshape((k, k)),
        prior=block[2 * k + 2 * kk : a].reshape((k, k)),
        gaps=block[a:b].reshape((2, MOST_GAP + 1)),
        life=block[b : b + 4],
        life_prior=block[b + 4 : b + 8],
        life_events=block[b + 8 : b + 12],
        tally=block[b + 12 : b + 14],
        figures=block[b + 14 : b + 14 + N_FIGURES],
    )


@inlined
def area_of(figures: F8) -> float:
    """Return the area of the field in um2, known or seen so far."""
    if figures[AREA] > 0.0:
        return figures[AREA]
    width = max(figures[X1] - figures[X0], LEAST_FIELD_UM)
    return width * max(figures[Y1] - figures[Y0], LEAST_FIELD_UM)


@inlined
def motion_of(learned: Learned) -> Motion:
    """Return the present estimates."""
    figures, life = learned.figures, learned.life
    n_spots = figures[SPOTS] / max(figures[FRAMES], 1.0)
    expected = PRIOR_FRAMES * (NEW_SHARE * n_spots + LEAST_NEW)
    new = (expected + figures[NEW]) / (PRIOR_FRAMES + figures[NEW_FRAMES])
    return Motion(
        learned.D_um2_s,
        learned.transition,
        learned.occupancy,
        life[0],
        life[1],
        life[2],
        life[3],
        REAL_SHARE,
        max(new, LEAST_SHARE * n_spots) / area_of(figures),
    )


@inlined
def learn(learned: Learned, frame: F8, had_tracks: bool) -> None:
    """Take in the counts of the frame just settled, and forget a little.

    Parameters
    ----------
    frame : (11,)
        Of its spots, as `graph_kernels.lay_out` leaves it: the first four are their extent.
    had_tracks : bool
        Without tracks, a frame tells nothing of new spots: all of its spots are new.
    """
    figures, tally = learned.figures, learned.tally
    new, n_spots = tally[0], tally[1]
    keep = 1.0 - FORGET_MOST
    figures[SPOTS] = keep * figures[SPOTS] + n_spots
    figures[FRAMES] = keep * figures[FRAMES] + 1.0
    if n_spots > 0.0:
        figures[X0], figures[Y0] = min(figures[X0], frame[0]), min(figures[Y0], frame[1])
        figures[X1], figures[Y1] = max(figures[X1], frame[2]), max(figures[Y1], frame[3])
    if had_tracks:
        keep = 1.0 - min(max(new / MEMORY_NEW, FORGET_LEAST), FORGET_MOST)
        figures[NEW] = keep * figures[NEW] + new
        figures[NEW_FRAMES] = keep * figures[NEW_FRAMES] + 1.0
    tally[0], tally[1] = 0.0, 0.0
    figures[SEEN] += 1.0
    if figures[SEEN] % REFRESH == 0.0:
        refresh(learned)


@kernel
def refresh(learned: Learned) -> None:
    """Work out the transition matrix, the occupancy and the photophysics from the counts."""
    counts, prior, transition = learned.counts, learned.prior, learned.transition
    occupancy, figures = learned.occupancy, learned.figures
    n_modes = counts.shape[0]
    news = max(counts.sum() - figures[STEPS], 0.0)
    keep = 1.0 - min(REFRESH * FORGET_MOTION, news / MEMORY_STEPS)
    share = 1.0 if figures[LEARNS] > 0.0 else 0.0
    total = 0.0
    for j in range(n_modes):
        left, sure = 0.0, 0.0
        for k in range(n_modes):
            counts[j, k] *= keep
            left += counts[j, k]
        whole = prior[j].sum() + share * left
        for k in range(n_modes):
            transition[j, k] = max((prior[j, k] + share * counts[j, k]) / whole, LEAST_P)
            sure += transition[j, k]
        for k in range(n_modes):
            transition[j, k] /= sure
        occupancy[j] = PRIOR_STEPS + left
        total += left
    for j in range(n_modes):
        occupancy[j] /= PRIOR_STEPS * n_modes + total
    figures[STEPS] = total
    relearn_life(learned)


@inlined
def relearn_life(learned: Learned) -> None:
    """Work out the photophysics from the gaps, where there is news enough."""
    figures, gaps = learned.figures, learned.gaps
    n_gaps = gaps.sum()
    if n_gaps <= (1.0 + LIFE_NEWS) * figures[GAPS] or learned.life_events.min() == math.inf:
        return
    relearn(gaps, learned.life_prior, learned.life_events, LIFE_ROUNDS, learned.life)
    keep = 0.5 if n_gaps > MOST_GAPS else 1.0
    gaps *= keep
    figures[GAPS] = keep * n_gaps
