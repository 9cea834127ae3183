"""How a due step reaches a worker: the protocol, Celery, and its consumer."""
