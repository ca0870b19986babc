"""One training step on any number of devices: state, gradients, update, memory."""
