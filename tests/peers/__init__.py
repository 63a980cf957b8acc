"""How the real peers are started: each a context manager, on 127.0.0.1 and free ports, gone when the test is over.

`tests/conftest.py` makes fixtures of them. A test that wants to kill a peer and start it again on the same port
and data uses the context manager itself, and `Server.kill` and `Server.start`.
"""
