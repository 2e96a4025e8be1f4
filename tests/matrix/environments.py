"""The versions that the matrix runs at: the lowest supported and the newest of each framework, and why not lower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ENVIRONMENTS", "Environment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment: what is installed in it, which tests run there, and why it is this one."""

    name: str
    packages: tuple[str, ...]
    """Ours, by folder; farthing itself is always there."""
    requirements: tuple[str, ...]
    tests: tuple[str, ...]
    shows: str
    """The distribution whose version the environment is about."""
    why: str


_LITELLM_TESTS: Final = ("packages/litellm_plugin", "tests/matrix/test_litellm.py")
_LANGCHAIN_TESTS: Final = ("packages/langchain_plugin", "tests/matrix/test_langchain.py", "tests/matrix/test_graphs.py")
_OVER_LITELLM: Final = "packages/crewai_plugin/tests/test_litellm_path.py"
_CREWAI_TESTS: Final = ("packages/crewai_plugin", f"--ignore={_OVER_LITELLM}", "tests/matrix/test_crewai.py")
_BOTH_TESTS: Final = (_OVER_LITELLM, "tests/matrix/test_crewai_litellm.py")
_LANGCHAIN: Final = (
    "langchain-openai",
    "langchain-anthropic",
    "langchain-aws",
    "langchain-google-genai",
    "langchain-litellm",
    "langgraph",
)

ENVIRONMENTS: Final = (
    Environment(
        name="litellm-floor",
        packages=("litellm_plugin",),
        requirements=("litellm==1.100.0", "fastapi", "tenacity", "google-auth", "backoff", "orjson", "redis"),
        tests=_LITELLM_TESTS,
        shows="litellm",
        why="An older LiteLLM puts its own count of a stream where nothing tells it from the provider's word.",
    ),
    Environment(
        name="litellm-newest",
        packages=("litellm_plugin",),
        requirements=("litellm", "fastapi", "tenacity", "orjson", "google-auth", "soundfile", "backoff", "redis"),
        tests=_LITELLM_TESTS,
        shows="litellm",
        why="Without CrewAI: from 1.101 on, LiteLLM cannot be imported whole beside the mcp 1.x that CrewAI pins.",
    ),
    Environment(
        name="langchain-floor",
        packages=("langchain_plugin", "litellm_plugin"),
        requirements=("langchain-core==1.3.0", "langchain==1.2.15", *_LANGCHAIN, "litellm<1.101"),
        tests=_LANGCHAIN_TESTS,
        shows="langchain-core",
        why="Older ones cannot be installed beside a langgraph that fits: its checkpoints name no upper bound.",
    ),
    Environment(
        name="langchain-newest",
        packages=("langchain_plugin", "litellm_plugin"),
        requirements=("langchain-core", "langchain", *_LANGCHAIN, "litellm<1.101"),
        tests=_LANGCHAIN_TESTS,
        shows="langchain-core",
        why="",
    ),
    Environment(
        name="crewai-floor",
        packages=("crewai_plugin",),
        requirements=("crewai[anthropic,bedrock,google-genai]==1.14.7",),
        tests=_CREWAI_TESTS,
        shows="crewai",
        why="Older events have no response id and no reason of the end; before 1.13 they have no usage.",
    ),
    Environment(
        name="crewai-litellm-floor",
        packages=("crewai_plugin", "litellm_plugin"),
        requirements=("crewai[litellm,anthropic,google-genai]==1.15.6", "litellm>=1.100,<1.101"),
        tests=_BOTH_TESTS,
        shows="crewai",
        why="1.15.6 is the first that can be installed beside litellm 1.100: 1.14.7 asks for litellm below 1.84.",
    ),
    Environment(
        name="crewai-newest",
        packages=("crewai_plugin", "litellm_plugin"),
        requirements=("crewai[litellm,anthropic,bedrock,google-genai]", "litellm>=1.100,<1.101"),
        tests=("packages/crewai_plugin", "tests/matrix/test_crewai.py", "tests/matrix/test_crewai_litellm.py"),
        shows="crewai",
        why="",
    ),
)
