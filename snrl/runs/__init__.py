"""One run: configuration, task, model, evaluation, tracking, and the folder that records it.

Importing this package loads neither torch nor SB3, so that a command can parse its arguments
first; :func:`snrl.runs.train.train` does the work.
"""
