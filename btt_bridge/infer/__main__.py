"""`python -m btt_bridge.infer`: one GPU node, on a machine that holds nothing of the hospital's."""

from __future__ import annotations

import signal
import threading

from btt_bridge import config, log
from btt_bridge.infer import main

if __name__ == "__main__":
    settings = config.load()
    log.configure(settings.log_level)
    log.mute_others()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    main(settings.node, stop)
