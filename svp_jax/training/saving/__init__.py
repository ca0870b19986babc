"""The training state on disk, and stopping in order."""
