"""farthing for LangChain and LangGraph: one callback that attributes and prices every model call.

`chain.invoke(question, config={"callbacks": [FarthingHandler(feature="chatbot", route="api/chat")]})`
"""

from __future__ import annotations

from farthing_langchain import versions  # isort: skip - first: an old langchain-core fails here with a reason
from farthing_langchain.ambient import install
from farthing_langchain.corroborating import corroborated
from farthing_langchain.handler import FarthingHandler

__all__ = ["FarthingHandler", "corroborated", "install"]

__version__ = versions.OURS
