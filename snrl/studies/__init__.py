"""Many runs: planned, executed, collected, compared, reported.

A study knows a run by its command line and its folder alone.
"""
