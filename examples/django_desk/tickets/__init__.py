"""The desk's one application: tickets, the replies to them, and the agents that write those."""
