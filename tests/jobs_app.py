"""A web application and its background jobs, as a user would write them: not a word of attribution in a task."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery  # pyright: ignore[reportMissingTypeStubs] - celery has none
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

import farthing
from farthing.integrations import celery as farthing_celery
from farthing.integrations.asgi import AttributionMiddleware
from farthing_langchain import FarthingHandler

jobs: Any = Celery("jobs_app", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
jobs.conf.update(broker_connection_retry_on_startup=True, task_default_queue=os.environ.get("QUEUE", "farthing"))
farthing_celery.install()

handler = FarthingHandler(feature="the-handler")  # weaker than the owner of a job
model: Any = ChatOpenAI(
    model="gpt-4o-mini",
    base_url=os.environ["PROVIDER_URL"],
    api_key="sk-test",  # pyright: ignore[reportArgumentType] - pydantic makes it a secret
    max_retries=0,
)
chain: Any = ChatPromptTemplate.from_template("say {x}") | model | StrOutputParser()
config: Any = {"callbacks": [handler]}


@jobs.task(name="summarise", bind=True, max_retries=1, default_retry_delay=0)
def summarise(self: Any, text: str, fail_once: bool = False) -> str:
    """Summarise; the first attempt may fail after the call, and the second is a message of its own."""
    answer = chain.invoke({"x": text}, config)
    if fail_once and self.request.retries == 0:
        raise self.retry(exc=RuntimeError("once"))
    follow_up.delay(text)
    return answer


@jobs.task(name="follow-up")
def follow_up(text: str) -> str:
    """Work that a job asks for is its owner's, too."""
    return chain.invoke({"x": text}, config)


app = FastAPI()
app.add_middleware(AttributionMiddleware, trust=True, defaults={"environment": "test"})  # pyright: ignore[reportArgumentType] - Starlette's factory type allows no keyword of its own


@app.post("/documents/{document}/summary")
async def ask(document: str, fail_once: bool = False) -> dict[str, str]:
    """Send a job."""
    with farthing.attribute(feature="summaries"):
        return {"job": summarise.delay(document, fail_once).id}


@app.get("/chat/{room}")
async def chat(room: str) -> dict[str, str]:
    """Ask in the request itself."""
    return {"answer": await chain.ainvoke({"x": room}, config)}


@app.get("/stream/{room}")
def stream(room: str, background: BackgroundTasks) -> StreamingResponse:
    """Ask while the answer is read, and once more when it has been."""
    background.add_task(chain.invoke, {"x": room}, config)
    return StreamingResponse(chain.stream({"x": room}, config))
