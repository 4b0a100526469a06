"""An experiment: its network, its checkpoints, the folder of its run, and its record."""
