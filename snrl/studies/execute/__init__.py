"""Doing the runs of a plan, one process each, on this machine or on a Ray cluster."""
