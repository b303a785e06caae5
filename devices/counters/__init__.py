"""The instructions of an inference on this computer's processor: see `device`."""
