#!/usr/bin/env python3
"""Speaks CRI to a unix socket with gRPC's C core, as clients other than Go's and Rust's do.

usage: authority.py SOCKET AUTHORITY calls|headers|large

AUTHORITY is what is sent as `:authority`; `-` leaves it to the library. No code is generated: requests and
answers are bytes. Prints `ok` and ends with 0, or raises.
"""

import sys

import grpc

MIB = 1 << 20
RUNTIME = "/runtime.v1.RuntimeService/"
IMAGES = "/runtime.v1.ImageService/"


def connect(socket, authority):
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    if authority != "-":
        options.append(("grpc.default_authority", authority))
    return grpc.insecure_channel("unix:" + socket, options=options)


def call(channel, method, request=b"", metadata=None):
    return channel.unary_unary(method)(request, timeout=60, metadata=metadata)


def field(number, payload):
    """A length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def version(channel, request=b"", metadata=None):
    answer = call(channel, RUNTIME + "Version", request, metadata)
    assert field(2, b"berth") in answer and field(4, b"v1") in answer, answer


def refused(channel, method, request, code, words):
    try:
        call(channel, RUNTIME + method, request)
    except grpc.RpcError as error:
        assert error.code() == code and words in error.details(), error
    else:
        raise AssertionError(method + " was answered")


def calls(channel):
    """Several methods of both services, in turn and side by side, on one connection."""
    for _ in range(3):
        version(channel)
        call(channel, RUNTIME + "Status")
        call(channel, RUNTIME + "ListPodSandbox")
        assert b"busybox" in call(channel, IMAGES + "ListImages"), "the image is not listed"
    pending = [channel.unary_unary(RUNTIME + "Version").future(b"", timeout=60) for _ in range(50)]
    for answer in pending:
        assert field(2, b"berth") in answer.result()
    refused(channel, "PodSandboxStatus", field(1, b"no-such-sandbox"), grpc.StatusCode.NOT_FOUND, "no-such-sandbox")
    # What a client of a newer CRI may ask for.
    refused(channel, "NotOfThisVersion", b"", grpc.StatusCode.UNIMPLEMENTED, "")
    version(channel)


def headers(channel):
    """Long sets of new headers, until nothing of the first ones is left in HPACK's dynamic table."""
    for turn in range(120):
        metadata = [("x-berth-%d-%d" % (turn, n), ("v%d-%d-" % (turn, n)) * 12) for n in range(12)]
        # Now and then a short set: it has to find the entries where the long ones left them.
        version(channel, metadata=metadata if turn % 3 else None)
    # Values that are longer than the whole table empty it.
    version(channel, metadata=[("x-long", "y" * 5000)])
    version(channel)


def large(channel):
    """A request may have 16 MiB; a larger one is refused and the connection goes on."""
    version(channel, field(1, b"x" * (15 * MIB)))
    for _ in range(2):
        refused(channel, "Version", field(1, b"x" * (20 * MIB)), grpc.StatusCode.OUT_OF_RANGE, "too large")
        version(channel)


def main():
    socket, authority, case = sys.argv[1:]
    with connect(socket, authority) as channel:
        {"calls": calls, "headers": headers, "large": large}[case](channel)
    print("ok")


main()
