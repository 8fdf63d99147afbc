"""All that knows HTTP and the wire of the Admin API; what leaves this room is the domain's values."""
