"""What the conversions promise: nothing is lost on the way, and no NaN travels."""

import math

import hypothesis.extra.numpy as hnp
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livespt.types import (
    REVISION_DTYPE,
    SPOT_DTYPE,
    Estimates,
    Event,
    FitStatus,
    Model,
    Spots,
    track_dtype,
)
from livespt.wire import (
    WireError,
    estimate_message,
    event_from,
    event_message,
    model_from,
    model_message,
)
from livespt.wire.schema import AnyMessage, EventMessage, Table

PIXEL_UM = 0.1


def a_model(n_states=2, seed=1):
    rng = np.random.default_rng(seed)
    k = n_states
    return Model(
        D_um2_s=np.sort(rng.random(k)),
        D_95=rng.random((k, 2)),
        occupancy=rng.random(k),
        occupancy_95=rng.random((k, 2)),
        p_switch=rng.random((k, k)),
        p_switch_95=rng.random((k, k, 2)),
        rate_per_s=rng.random((k, k)),
        error_scale=1.02,
        error_scale_95=np.array([0.9, 1.1]),
        occupancy_lag=rng.random((3, k)),
        lags=np.array([0, 3, 7]),
        interval_s=0.01,
        n_steps=1234,
        n_tracks=56,
        status="ok",
    )


def spots_of(table):
    return Spots(7, 0.07, 0.01, 1.0, table)


def estimates_of(n=0, n_states=2):
    return Estimates(7, 0.07, np.zeros(n, track_dtype(n_states)), a_model(n_states))


@pytest.mark.parametrize("n_states", [1, 2, 4])
def test_a_model_comes_back_bit_for_bit(n_states):
    model = a_model(n_states)
    body = msgspec.msgpack.encode(model_message(model))
    back = model_from(msgspec.msgpack.decode(body, type=type(model_message(model))))
    for name, value in model._asdict().items():
        np.testing.assert_array_equal(getattr(back, name), value, err_msg=name)
        if isinstance(value, np.ndarray):
            assert getattr(back, name).shape == value.shape
            assert getattr(back, name).dtype == value.dtype


def test_a_nan_in_a_model_is_refused_by_name():
    model = a_model()
    model.D_95[1, 0] = np.nan
    with pytest.raises(WireError, match=r"model\.D_95: holds NaN"):
        model_message(model)
    with pytest.raises(WireError, match=r"model\.error_scale: holds NaN"):
        model_message(a_model()._replace(error_scale=math.nan))


def test_a_nan_in_the_tracks_is_refused_by_name():
    estimates = estimates_of(3)
    estimates.table["sd_D_um2_s"][1] = np.nan
    with pytest.raises(WireError, match=r"estimates\.sd_D_um2_s: holds NaN"):
        estimate_message(spots_of(np.zeros(0, SPOT_DTYPE)), estimates, 1.0, PIXEL_UM)


def test_an_unbounded_interval_may_travel():
    model = a_model()
    model.D_95[1, 1] = np.inf
    body = msgspec.msgpack.encode(model_message(model))
    back = model_from(msgspec.msgpack.decode(body, type=type(model_message(model))))
    assert back.D_95[1, 1] == np.inf


def test_summaries_count_accepted_spots_only():
    table = np.zeros(4, SPOT_DTYPE)
    table["var_x_um2"], table["var_y_um2"] = 0.03**2, 0.05**2
    table["photons"] = [100.0, 200.0, 300.0, 1e9]
    table["bg_photons"] = [1.0, 2.0, 3.0, 1e9]
    table["sigma_um"] = 0.15
    table["status"][3] = FitStatus.BAD_WIDTH
    message = estimate_message(spots_of(table), estimates_of(2), 4.5, PIXEL_UM)
    assert message.n_spots == 3
    assert message.median_photons == 200.0
    assert message.median_bg_photons == 2.0
    assert message.median_sd_um == pytest.approx(math.sqrt((0.03**2 + 0.05**2) / 2), rel=1e-12)
    # 100 photons per photon of background in each of the three, over 4 pi 1.5^2 pixels
    assert message.sbr == pytest.approx(100 / (4 * math.pi * 1.5**2), rel=1e-12)
    assert message.latency_ms == 4.5


def test_a_frame_without_spots_has_zeros_for_summaries():
    message = estimate_message(
        spots_of(np.zeros(0, SPOT_DTYPE)), estimates_of(0), latency_ms=1.0, pixel_um=PIXEL_UM
    )
    assert (message.n_spots, message.median_sd_um, message.sbr) == (0, 0.0, 0.0)


wild = st.floats(allow_nan=True, allow_infinity=True, width=64)
wild_tables = st.integers(0, 6).flatmap(
    lambda n: hnp.arrays(np.float64, (n, len(SPOT_DTYPE) - 2), elements=wild)
)


@settings(max_examples=300, deadline=None)
@given(values=wild_tables, status=st.integers(0, 1))
def test_whatever_the_fits_hold_no_nan_reaches_the_wire(values, status):
    table = np.zeros(len(values), SPOT_DTYPE)
    for name, column in zip(SPOT_DTYPE.names[:-2], values.T, strict=True):
        table[name] = column
    table["status"] = status
    sent = estimate_message(spots_of(table), estimates_of(2), 1.0, PIXEL_UM)
    got = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=AnyMessage)
    for name in ("median_sd_um", "median_photons", "median_bg_photons", "sbr", "latency_ms"):
        assert math.isfinite(getattr(got, name)), name


def test_revisions_travel_where_there_are_any():
    revised = np.array([(3, 1, 7, 0.9), (4, 0, 8, 0.8)], REVISION_DTYPE)
    for table in (revised, revised[:0]):
        sent = estimate_message(
            spots_of(np.zeros(0, SPOT_DTYPE)), estimates_of(2), 1.0, PIXEL_UM, table
        )
        got = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=AnyMessage)
        if len(table):
            np.testing.assert_array_equal(got.revised.array(), table)
        else:
            assert got.revised is None


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=100, deadline=None)
@given(
    values=hnp.arrays(np.float64, (3, 10), elements=finite),
    p_state=hnp.arrays(np.float64, (3, 2), elements=finite),
)
def test_tables_come_back_bit_for_bit(values, p_state):
    table = np.zeros(3, track_dtype(2))
    for name, column in zip(table.dtype.names, values.T, strict=False):
        if table.dtype[name].kind == "f":
            table[name] = column
    table["p_state"] = p_state
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(Table.of(table)), type=Table).array()
    assert back.dtype == table.dtype
    assert back.tobytes() == table.tobytes()


def test_an_event_comes_back():
    event = Event("missing", 1.25, 40, 3, "3 frames missing")
    assert event_from(event_message(event)) == event
    event = Event("mark", 1.25, 40, 3, "bleached to 30 %", "bleached", 30.0, 9.0)
    packed = msgspec.msgpack.encode(event_message(event))
    assert event_from(msgspec.msgpack.decode(packed, type=EventMessage)) == event
    with pytest.raises(WireError, match=r"event\.after: holds NaN"):
        event_message(event._replace(after=np.nan))


def test_an_event_of_before_events_had_names_is_read():
    """An older publisher of the same schema version sends no name, before, after."""
    old = {"type": "event", "kind": "note", "t_s": 1.0, "frame": 2, "n_frames": 0, "message": "m"}
    message = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=EventMessage)
    assert event_from(message) == Event("note", 1.0, 2, 0, "m")
