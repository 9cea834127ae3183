"""A customer service as a FastAPI team has it: sessions, SQLAlchemy, Celery, a page; with agentkit as its guest."""
