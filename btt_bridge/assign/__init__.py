"""From a complete study to the service it gets, by the hospital's own mappings.

In: the mappings folder (`load`, `check`), then a study (`match`).
Out: a Route, or Unrouted with the keyword at which each route stopped, or a Tie with the routes that want the study.
Goes wrong: a mapping that does not hold is a MappingError with file, line and keyword, and nothing is matched by it.
"""

from btt_bridge.assign.load import Names, Routes, Rule, check, load
from btt_bridge.assign.match import Tie, Unrouted, match

__all__ = ["Names", "Routes", "Rule", "Tie", "Unrouted", "check", "load", "match"]
