"""edgedl."""
