"""What a tag may be and which calls need which: one document, decided without I/O, off the request path.

Where the document makes a missing tag a reason to refuse, the same decision is taken once more on the caller's thread.
"""

from farthing.policy.decision import Layer, Policy, Refusal, Verdict
from farthing.policy.document import PolicyDocument
from farthing.policy.values import INVALID, OVERFLOW

__all__ = ["INVALID", "OVERFLOW", "Layer", "Policy", "PolicyDocument", "Refusal", "Verdict"]
