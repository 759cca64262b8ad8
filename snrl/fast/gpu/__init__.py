"""The gradient steps of an algorithm as CUDA graphs: no launch but one, and nothing to wait for."""
