"""Placeholder until written below."""


def decode(body: bytes) -> object:
    raise NotImplementedError
