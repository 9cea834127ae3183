"""Other people's wires: AG-UI and the AI SDK's chat, so that their published clients speak to agents as they are.

Each wire is a translator of the log's events (`translator.py`), pure, and routes that take what its client sends. Both
keep their conversations as threads (`conversation.py`). Nothing here is a second way into a run: what a client sends
becomes a start, an answer or a message, with the rights and bounds of those.
"""
