"""Moving a face by names and numbers: what can be set in a face model, and scripts of values over time."""
