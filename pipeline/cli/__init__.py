"""The command line, one command a file. Nothing on the way to `--help` imports NumPy or TensorFlow."""
