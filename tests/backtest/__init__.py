"""The rules put to the test on the demo organisation's past: a quiet month, and incidents whose truth is known."""
