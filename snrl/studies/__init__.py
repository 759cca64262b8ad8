"""Many runs, compared: a study file, its plan, its execution.

A study knows a run by its command line and its folder alone, and loads neither torch nor SB3.
"""
