"""Networks forward and backward on the CPU: tapes of operations that C runs."""
