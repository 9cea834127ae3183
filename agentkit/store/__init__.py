"""Stores: the protocol in `base`, one file per implementation, one contract suite for all (tests/store_contract.py)."""
