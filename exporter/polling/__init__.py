"""What is asked when: windows, one poll, the schedule; it receives what it calls."""
