"""The papers' results as experiments of `livespt.reproduce`, one module per subject."""
