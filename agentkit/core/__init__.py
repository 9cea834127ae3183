"""What is written down: messages, events, the run record, JSON. Values and their checks, no I/O."""
