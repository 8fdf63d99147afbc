"""A simulated organisation behind a real HTTP Admin API with the rules of the real one."""
