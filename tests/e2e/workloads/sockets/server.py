"""A page that opens a WebSocket and an event stream, and tells what came of it: for a browser."""

import asyncio
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

PAGE = """<!doctype html><title>Sockets</title><p id="seen">nothing</p>
<script>
const seen = [];
const show = what => { seen.push(what); document.getElementById("seen").textContent = seen.join("; "); finish(); };
const finish = () => seen.length == 5 && fetch("/report", {method: "POST", body: seen.join("; ")});
const socket = new WebSocket("ws://" + location.host + "/chat", "chat");
socket.onopen = () => socket.send("hello");
socket.onmessage = message => { show("message " + message.data); socket.close(4321, "enough"); };
socket.onclose = close => show("closed " + close.code + " " + socket.protocol);
const events = new EventSource("/events");
events.onmessage = event => {
  show("event " + event.data);
  if (event.data == "1") fetch("/heard").then(() => show("heard")); else events.close();
};
</script>
<img src="/done" alt="">
"""
"""The page has loaded when its image has, and that waits for the report: so the browser's dump holds the outcome."""

heard = asyncio.Event()
reported = asyncio.Event()


async def page(_request: Request) -> Response:
    heard.clear()
    reported.clear()
    return HTMLResponse(PAGE)


async def chat(socket: WebSocket) -> None:
    await socket.accept(subprotocol="chat")
    async for message in socket.iter_text():
        await socket.send_text(message * 2)


async def events(_request: Request) -> Response:
    async def stream() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        await heard.wait()
        await asyncio.sleep(0.2)
        yield "data: 2\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def hear(_request: Request) -> Response:
    heard.set()
    return Response()


async def report(request: Request) -> Response:
    print(await request.body(), flush=True)
    reported.set()
    return Response()


async def done(_request: Request) -> Response:
    await asyncio.wait_for(reported.wait(), 10)
    return Response(status_code=404)


routes = [
    Route("/", page),
    WebSocketRoute("/chat", chat),
    Route("/events", events),
    Route("/heard", hear),
    Route("/report", report, methods=["POST"]),
    Route("/done", done),
]
uvicorn.run(Starlette(routes=routes), host="", port=8000, ws="wsproto", log_level="warning")
