"""The sidecar: a trio program with a callback pump inside.

The way of a request, ten stops; each stands as a `# stop N` comment beside its function, and a test compares:

 1. listener.Listener.on_ready: accept; original destination; a Session
 2. session.Session.on_data: detect HTTP/1, HTTP/2, TLS or opaque bytes
 3. wire.message.MessageReader.feed: bytes to head, body, end
 4. exchange.Exchange.on_request: the conductor; the next six stops are its calls
 5. policy.route.match: the destination as discovery knows it to a Route
 6. policy.balance.pick: the less loaded of two random endpoints
 7. attempt.Attempt.take: an idle connection of the endpoint's pool, or a dial
 8. exchange.Exchange.on_body: bytes both ways, held back by watermarks
 9. policy.classify.response: success or failure
10. exchange.Exchange.finish: record load, meter; give the connection back

Outbound and inbound walk the same way: outbound asks discovery what stands behind the original destination,
inbound has one endpoint, the application at that very address. HTTP/2 walks the same way too, each request as a
stream of a multiplex and of a trunk; what a policy adds hangs on the exchange as its course. ARCHITECTURE.md has the
map.
"""
