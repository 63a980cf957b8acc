"""Takes the patient out of an object, and proves that it worked, before anything may leave.

In: the bytes of one object, this site's UID key, the patient's pseudonym.
Out: `Stripped`, bytes ready to leave and what must be remembered; `Examined`, what the proof keeps of the object.
Wrong: PixelTextError (the pixels may carry text), MalformedError (the object does not hold together),
IdentityLeakError (a value of the originals is still there).
"""

from btt_bridge.deidentify.pixels import ScannerPixels
from btt_bridge.deidentify.profile import strip
from btt_bridge.deidentify.proof import Examined, Proof, examine

__all__ = ["Examined", "Proof", "ScannerPixels", "examine", "strip"]
