"""farthing for CrewAI: one listener attributes and prices every model call of a crew, an agent, a flow or a bare LLM.

import farthing_crewai

farthing_crewai.FarthingListener(feature="research")  # registers itself on CrewAI's event bus
"""

from farthing_crewai.versions import UnsupportedCrewAIError  # isort: skip - refuses an old crewai before it is touched
from farthing_crewai.corroborating import ProviderTags
from farthing_crewai.listener import FarthingListener
from farthing_crewai.refusing import CallRefusedError

__all__ = ["CallRefusedError", "FarthingListener", "ProviderTags", "UnsupportedCrewAIError"]

__version__ = "0.1.0"
