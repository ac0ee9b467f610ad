"""Drives exec, attach and port-forward of a streaming URL through PyPI's websocket-client.

usage: python ws.py exec|attach URL [options]
       python ws.py port-forward URL --ports 80,81 [options]
       python ws.py tunnel URL [options]

exec, attach: stdin, stdout and stderr are the process's own. Exits with the code of the Status, 0 for success.
  --protocols A,B   what is asked for, best first (v5 and v4 of channel.k8s.io)
  --resize 80x24,…  sizes that are sent on channel 4
  --status FILE     where the Status goes, as it came; otherwise it is the last line of stderr
  --no-stdin        nothing is read from stdin
  The end of stdin is told with v5 only: the others have no way to.

port-forward: the ports are added to the URL as `port=`; sends bytes to each at once, and compares what comes back.
Prints one JSON object a port: port, bytes, echo, error. Exits with 1 when one is no echo.
  --protocols A,B   (v4.channel.k8s.io)
  --bytes N         sent to each (100000)

tunnel: what comes on stdin goes out as binary messages, what they bring to stdout: for SPDY inside.
  --protocols A,B   (SPDY/3.1+portforward.k8s.io)

Exits with 70 when the peer does something else than it should, and with 71 when the upgrade is refused: then stderr
has the status and the body of the answer. For tests of what a peer must not do: --raw FILE sends the file's lines
first, each the hex of one binary message.
"""

import argparse
import base64
import json
import os
import sys
import threading

import websocket

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
TUNNEL = "SPDY/3.1+portforward.k8s.io"
PROTOCOL_ERROR = 70
REFUSED = 71
PIECE = 32 * 1024
PATIENCE = 60


def fail(code, text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    os._exit(code)


class Channels:
    """A connection whose messages begin with a channel."""

    def __init__(self, url, protocols):
        url = "ws" + url.removeprefix("http")
        try:
            self.socket = websocket.create_connection(
                url, subprotocols=protocols, suppress_origin=True, timeout=PATIENCE,
                enable_multithread=True)
        except websocket.WebSocketBadStatusException as refused:
            body = (refused.resp_body or b"").decode(errors="replace")
            fail(REFUSED, f"{refused.status_code} {body}")
        except (OSError, websocket.WebSocketException) as error:
            fail(PROTOCOL_ERROR, f"request: {error}")
        self.protocol = self.socket.getsubprotocol()
        if self.protocol not in protocols:
            fail(PROTOCOL_ERROR, f"chosen: {self.protocol}")
        self.base64 = "base64" in self.protocol

    def send(self, channel, payload):
        if self.base64:
            self.socket.send(str(channel) + base64.b64encode(payload).decode())
        else:
            self.socket.send_binary(bytes([channel]) + payload)

    def raw(self, message):
        self.socket.send_binary(message)

    def receive(self):
        """The next channel and payload; None when the peer has closed."""
        while True:
            message = self.message()
            if message is None:
                return None
            opcode, payload = message
            wanted = websocket.ABNF.OPCODE_TEXT if self.base64 else websocket.ABNF.OPCODE_BINARY
            if opcode != wanted:
                fail(PROTOCOL_ERROR, f"a message of type {opcode}")
            if not payload:
                fail(PROTOCOL_ERROR, "a message without a channel")
            if self.base64:
                return payload[0] - ord("0"), base64.b64decode(payload[1:], validate=True)
            return payload[0], payload[1:]

    def message(self):
        try:
            opcode, payload = self.socket.recv_data()
        except websocket.WebSocketConnectionClosedException:
            fail(PROTOCOL_ERROR, "the connection ended without a close")
        except (OSError, websocket.WebSocketException) as error:
            fail(PROTOCOL_ERROR, f"receive: {error!r}")
        return None if opcode == websocket.ABNF.OPCODE_CLOSE else (opcode, payload)


def pieces(source):
    while piece := os.read(source, PIECE):
        yield piece


def in_background(work):
    def quietly():
        # What fails here is told by the receiving side: the peer may close before it has taken all.
        try:
            work()
        except (OSError, websocket.WebSocketException):
            pass

    threading.Thread(target=quietly, daemon=True).start()


def exit_code(protocol, text):
    version = protocol.split(".")[0]
    if version not in ("v4", "v5"):
        return 1 if text else 0
    status = json.loads(text)
    if status["status"] == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    codes = [int(cause["message"]) for cause in causes if cause["reason"] == "ExitCode"]
    return codes[0] if codes else 1


def run(given):
    protocols = given.protocols or "v5.channel.k8s.io,v4.channel.k8s.io"
    channels = Channels(given.url, protocols.split(","))
    for line in open(given.raw, encoding="ascii") if given.raw else ():
        channels.raw(bytes.fromhex(line))
    for size in given.resize.split(",") if given.resize else ():
        width, height = map(int, size.split("x"))
        channels.send(RESIZE, json.dumps({"Width": width, "Height": height}).encode())

    def pump():
        for piece in pieces(sys.stdin.fileno()):
            channels.send(STDIN, piece)
        if channels.protocol.startswith("v5"):
            channels.raw(bytes([CLOSE, STDIN]))

    if not given.no_stdin:
        in_background(pump)
    text = b""
    sinks = {STDOUT: sys.stdout.buffer, STDERR: sys.stderr.buffer}
    while (received := channels.receive()) is not None:
        channel, payload = received
        if channel == ERROR:
            text += payload
        elif channel in sinks:
            sinks[channel].write(payload)
            sinks[channel].flush()
        elif not (channel == CLOSE and channels.protocol.startswith("v5")):
            fail(PROTOCOL_ERROR, f"a message on channel {channel}")
    try:
        code = exit_code(channels.protocol, text.decode())
    except (ValueError, KeyError) as error:
        fail(PROTOCOL_ERROR, f"status: {text!r}: {error!r}")
    if given.status:
        with open(given.status, "wb") as status:
            status.write(text)
        os._exit(code)
    fail(code, text.decode())


def forward(given):
    ports = [int(port) for port in given.ports.split(",")]
    query = "&".join(f"port={port}" for port in ports)
    url = given.url + ("&" if "?" in given.url else "?") + query
    channels = Channels(url, (given.protocols or "v4.channel.k8s.io").split(","))
    sent = [bytes((at * 31 + n) % 256 for at in range(given.bytes)) for n in range(len(ports))]
    got = [b""] * (2 * len(ports))
    begun = set()

    def pump():
        for start in range(0, given.bytes, PIECE):
            for n in range(len(ports)):
                channels.send(2 * n, sent[n][start:start + PIECE])

    in_background(pump)

    def done(n):
        return {2 * n, 2 * n + 1} <= begun and (got[2 * n + 1] or len(got[2 * n]) >= given.bytes)

    while not all(done(n) for n in range(len(ports))):
        received = channels.receive()
        if received is None:
            break
        channel, payload = received
        if channel >= len(got):
            fail(PROTOCOL_ERROR, f"a message on channel {channel}")
        if channel not in begun:
            # The first says which port the channel is for.
            if int.from_bytes(payload, "little") != ports[channel // 2] or len(payload) != 2:
                fail(PROTOCOL_ERROR, f"channel {channel} begins with {payload!r}")
            begun.add(channel)
        else:
            got[channel] += payload
    for n, port in enumerate(ports):
        echo = got[2 * n] == sent[n]
        print(json.dumps({"port": port, "bytes": len(got[2 * n]), "echo": echo,
                          "error": got[2 * n + 1].decode()}))
    sys.stdout.flush()
    channels.socket.close()
    os._exit(0 if all(got[2 * n] == sent[n] for n in range(len(ports))) else 1)


def tunnel(given):
    channels = Channels(given.url, [given.protocols or TUNNEL])

    def pump():
        for piece in pieces(sys.stdin.fileno()):
            channels.raw(piece)
        # Not `close`, which would read what the other thread waits for.
        channels.socket.send_close()

    in_background(pump)
    while (message := channels.message()) is not None:
        opcode, payload = message
        if opcode != websocket.ABNF.OPCODE_BINARY:
            fail(PROTOCOL_ERROR, f"a message of type {opcode}")
        sys.stdout.buffer.write(payload)
        sys.stdout.buffer.flush()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("mode", choices=["exec", "attach", "port-forward", "tunnel"])
    parser.add_argument("url")
    parser.add_argument("--protocols")
    parser.add_argument("--resize")
    parser.add_argument("--status")
    parser.add_argument("--no-stdin", action="store_true")
    parser.add_argument("--raw")
    parser.add_argument("--ports", default="80")
    parser.add_argument("--bytes", type=int, default=100000)
    given = parser.parse_args()
    {"exec": run, "attach": run, "port-forward": forward, "tunnel": tunnel}[given.mode](given)


if __name__ == "__main__":
    main()
