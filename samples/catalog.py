"""The catalog: which patterns stand for election. Run it with `python -m samples.catalog`.

poll.proto says what it answers.
"""

import grpc

from samples.poll_pb2 import GetRequest, ListReply, ListRequest, Pattern
from samples.poll_pb2_grpc import CatalogServicer, add_CatalogServicer_to_server
from samples.rpc import Draining, serve

# id, name, what is said of it, how CSS paints it
PATTERNS = (
    ("gingham", "Gingham", "Picnics, jam jars, summer.",
     "repeating-linear-gradient(90deg,#c2484855 0 14px,transparent 14px 28px),"
     "repeating-linear-gradient(#c2484855 0 14px,#fff8f0 14px 28px)"),
    ("polka", "Polka Dot", "Cannot be sad.",
     "radial-gradient(circle at 7px 7px,#fff 5px,transparent 5.5px) 0 0/28px 28px,"
     "radial-gradient(circle at 21px 21px,#fff 5px,#3a6ea5 5.5px) 0 0/28px 28px"),
    ("breton", "Breton Stripe", "Smells faintly of the sea.",
     "repeating-linear-gradient(#fdfaf3 0 12px,#23395b 12px 18px)"),
    ("herringbone", "Herringbone", "Knows a good tailor.",
     "repeating-linear-gradient(45deg,#0000 0 6px,#5d534a 6px 9px) 0 0/24px 24px,"
     "repeating-linear-gradient(-45deg,#d8cbb8 0 6px,#8a7b6b 6px 9px) 12px 0/24px 24px"),
    ("tartan", "Tartan", "Every thread an ancestor.",
     "repeating-linear-gradient(90deg,#f4d35e 0 2px,#0000 2px 30px,#0b3d2e99 30px 46px,#0000 46px 60px),"
     "repeating-linear-gradient(#f4d35e 0 2px,#0000 2px 30px,#0b3d2e99 30px 46px,#0000 46px 60px),#a4303f"),
    ("chevron", "Chevron", "Always going somewhere.",
     "linear-gradient(135deg,#e8a33d 25%,#0000 25%) -14px 0/28px 28px,"
     "linear-gradient(225deg,#e8a33d 25%,#0000 25%) -14px 0/28px 28px,"
     "linear-gradient(315deg,#e8a33d 25%,#0000 25%) 0 0/28px 28px,"
     "linear-gradient(45deg,#e8a33d 25%,#fff3dc 25%) 0 0/28px 28px"),
    ("argyle", "Argyle", "Plays the back nine.",
     "linear-gradient(60deg,#0000 48%,#fff 49% 51%,#0000 52%) 0 0/30px 52px,"
     "linear-gradient(-60deg,#0000 48%,#fff 49% 51%,#0000 52%) 0 0/30px 52px,"
     "linear-gradient(60deg,#6c8e5a 25%,#0000 25% 75%,#6c8e5a 75%) 0 0/30px 52px,#3e5c47"),
    ("pinstripe", "Pinstripe", "Has a meeting at nine.",
     "repeating-linear-gradient(90deg,#2b2d42 0 11px,#8d99ae 11px 12px)"),
    ("tulle", "Tulle", "A net so light you see through it.",
     "repeating-linear-gradient(60deg,#b98fb055 0 1px,#0000 1px 9px),"
     "repeating-linear-gradient(-60deg,#b98fb055 0 1px,#0000 1px 9px),linear-gradient(160deg,#fdf3fa,#ead4e6)"),
    ("confetti", "Confetti", "The party was yesterday.",
     "radial-gradient(circle at 20% 30%,#ef476f 3px,#0000 4px) 0 0/40px 40px,"
     "radial-gradient(circle at 70% 60%,#06d6a0 3px,#0000 4px) 0 0/34px 34px,"
     "radial-gradient(circle at 40% 80%,#118ab2 3px,#fffdf7 4px) 0 0/46px 46px"),
    ("houndstooth", "Houndstooth", "Best seen from afar.",
     "linear-gradient(-45deg,#fff 25%,#0000 25% 50%,#222 50% 75%,#0000 75%) 0 0/22px 22px,"
     "linear-gradient(45deg,#222 50%,#fff 50%) 0 0/22px 22px"),
    ("moth-holes", "Moth Holes", "Somebody was here before you.",
     "radial-gradient(ellipse 9px 7px at 30% 35%,#3b322b 95%,#0000) 0 0/70px 60px,"
     "radial-gradient(ellipse 5px 8px at 75% 70%,#3b322b 95%,#0000) 0 0/54px 66px,#b7a58c"),
)  # fmt: skip

BY_ID = {key: Pattern(id=key, name=name, note=note, background=paint) for key, name, note, paint in PATTERNS}


class Catalog(CatalogServicer):
    """The service."""

    async def List(self, request: ListRequest, context: grpc.aio.ServicerContext) -> ListReply:
        return ListReply(patterns=BY_ID.values())

    async def Get(self, request: GetRequest, context: grpc.aio.ServicerContext) -> Pattern:
        pattern = BY_ID.get(request.id)
        if pattern is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no pattern is called {request.id}")
        return pattern


def register(server: grpc.aio.Server, _draining: Draining) -> None:
    add_CatalogServicer_to_server(Catalog(), server)


if __name__ == "__main__":
    serve(register)
