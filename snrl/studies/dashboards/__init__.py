"""The panels of :mod:`snrl.studies.panels` in one's own Weights & Biases and TensorBoard."""
