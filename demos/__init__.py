"""Live demos of machine-learning methods, one file each; a file here is a demo, nothing is registered."""
