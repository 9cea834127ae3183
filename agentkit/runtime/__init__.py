"""What executes steps over the protocols: leases and their renewal, streamed events, recovery, following a log.

It knows stores and providers by their protocols only, and neither Celery nor Flask.
"""
