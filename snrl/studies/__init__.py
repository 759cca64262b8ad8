"""Many runs: planned, executed, collected, compared, reported."""
