"""The options of a run, one file for each subject; ``snrl.runs.hyperparameters`` joins them."""
