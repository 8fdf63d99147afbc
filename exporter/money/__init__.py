"""What usage costs; pure."""
