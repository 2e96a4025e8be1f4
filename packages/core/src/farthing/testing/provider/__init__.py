"""A provider of large language models on loopback that answers like the real ones and keeps its own invoice.

from farthing.testing.provider import FakeProvider, Reply

with FakeProvider() as provider:
    provider.script(Reply(text="hello", input_tokens=1000, output_tokens=200), model="gpt-4o")
    ...  # point a client at provider.openai_url
    print(provider.invoice)
"""

from farthing.testing.provider.invoice import Invoice, InvoiceLine, Item
from farthing.testing.provider.plan import Counts
from farthing.testing.provider.script import Fault, ReceivedRequest, Reply, Rule, ToolCall
from farthing.testing.provider.server import FakeProvider

__all__ = [
    "Counts",
    "FakeProvider",
    "Fault",
    "Invoice",
    "InvoiceLine",
    "Item",
    "ReceivedRequest",
    "Reply",
    "Rule",
    "ToolCall",
]
