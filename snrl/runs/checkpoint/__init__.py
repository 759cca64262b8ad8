"""Checkpoints of a run, in its folder: all that a killed run needs to go on, bit by bit.

``generations`` keeps them on disk, whole or not at all; ``replay`` the replay buffer, of which a
checkpoint writes what is new; ``model`` is the state of an algorithm, ``episode`` that of a task;
``callback`` decides when, and puts the parts together.
"""
