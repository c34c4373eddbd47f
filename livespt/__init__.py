"""livespt: live single-particle tracking at the statistical limit.

The data flow is the layout: `livespt.sources` -> `livespt.localize` -> `livespt.link` ->
`livespt.infer` -> `livespt.wire` and `livespt.journal`, joined in `livespt.pipeline`. The values
that flow are in `livespt.types`.
"""

__version__ = "0.1.0"
