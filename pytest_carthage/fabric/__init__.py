"""The fabric: the isolated place in which a live layout exists.

Lean by design: everything here runs on the standard library alone, in processes that are
forked by the hundred and that enter other file systems. :mod:`~.init` is the fabric's PID 1,
:mod:`~.agent` answers inside each machine, :mod:`~.wire` is what they speak.
"""
