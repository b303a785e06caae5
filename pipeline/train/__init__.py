"""Training in TensorFlow's static graph: the stage, and what its loop needs (schedule, losses, checkpoint)."""
