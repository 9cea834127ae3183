"""Stores: the protocol, one file per implementation, one contract suite for all (agentkit.testing.store_contract)."""
