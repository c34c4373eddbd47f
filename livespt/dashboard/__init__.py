"""The two faces of a run: a window (pyqtgraph, its own process) and a terminal view (rich).

Both read the messages of `livespt.wire.schema` into one plain state and draw from it:

    message -> LiveState (state.py, no Qt) -> TerminalView (terminal.py, no Qt)
                                           -> DashboardWindow (window.py, Qt)

Whatever the rate of messages, a face redraws at its own pace and holds bounded memory: curves
decimate themselves (history.py) and tails of tracks hold a fixed span of time (tails.py).
"""
