"""Models as files, read without trust."""
