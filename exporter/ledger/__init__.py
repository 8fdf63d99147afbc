"""The counters: registers that only rise, and the odometer that they amount to; pure, without I/O."""
