"""The protocol's HTTP side, in pieces: problems, bodies, streams, runs, system and the OpenAPI document.

The only package, with agentkit/web.py, that knows Flask. It decides nothing about runs: every route checks
what came in, asks the kit, and writes down the answer.
"""
