#!/usr/bin/env python3
"""Shows pods by their status files, and waits for them.

usage: pods.py FOLDER table
       pods.py FOLDER events POD
       pods.py FOLDER get POD PATH            the text at PATH, such as status.podIP or metadata.uid
       pods.py FOLDER wait SINCE POD WHAT...  until each WHAT came true, one after the other; SINCE as date +%s.%N

WHAT: ready, unready, gone, phase=X, waiting=REASON, restarts=N (or more), event=REASON, other=UID
"""

import json
import os
import sys
import time

LIMIT_SECONDS = 180


def records(folder: str) -> list[dict]:
    """All status files."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    found.append(json.load(file))
            except FileNotFoundError:
                pass
    return found


def containers(record: dict) -> list[dict]:
    """The statuses of a pod's app containers."""
    return record["pod"]["status"].get("containerStatuses", [])


def restarts(record: dict) -> int:
    """How often the pod's containers were restarted."""
    return sum(container.get("restartCount", 0) for container in containers(record))


def reason(record: dict) -> str:
    """The word that says most about a pod: why a container waits, else the pod's phase."""
    for container in containers(record):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return waiting["reason"]
    status = record["pod"]["status"]
    return status.get("reason") or status["phase"]


def is_so(record: dict | None, what: str) -> bool:
    """Whether what is waited for is so."""
    kind, _, value = what.partition("=")
    if kind == "gone" or record is None:
        return kind == "gone" and record is None
    status = record["pod"]["status"]
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    waiting = [c.get("state", {}).get("waiting", {}).get("reason") for c in containers(record)]
    return {
        "ready": ready,
        "unready": not ready,
        "phase": status.get("phase") == value,
        "waiting": value in waiting,
        "restarts": value.isdigit() and restarts(record) >= int(value),
        "event": any(event["reason"] == value for event in record["events"]),
        "other": record["pod"]["metadata"]["uid"] != value,
    }[kind]


def find(folder: str, pod: str) -> dict | None:
    """The pod of that name, with or without the node's at its end."""
    of = [r for r in records(folder) if r["pod"]["metadata"]["name"] in (pod, f"{pod}-demo")]
    return of[0] if of else None


def wait(folder: str, since: float, pod: str, steps: list[str]) -> None:
    """Waits for one step after the other, and says when each came."""
    for what in steps:
        while not is_so(find(folder, pod), what):
            if time.time() - since > LIMIT_SECONDS:
                sys.exit(f"waited too long for {pod}: {what}: {json.dumps(find(folder, pod))}")
            time.sleep(0.02)
        print(f"   {time.time() - since:8.3f} s  {pod}: {what}", flush=True)


def table(folder: str) -> None:
    """All pods, a line each."""
    rows = [("POD", "READY", "STATUS", "RESTARTS", "IP")]
    for record in records(folder):
        own = containers(record)
        ready = sum(1 for container in own if container.get("ready"))
        name, ip = record["pod"]["metadata"]["name"], record["pod"]["status"].get("podIP", "")
        rows.append((name, f"{ready}/{len(own)}", reason(record), str(restarts(record)), ip))
    for row in rows:
        print("   {:16} {:6} {:18} {:9} {}".format(*row).rstrip())


def main() -> None:
    """Does what is asked for."""
    folder, command, *rest = sys.argv[1:]
    if command == "table":
        table(folder)
    elif command == "wait":
        wait(folder, float(rest[0]), rest[1], rest[2:])
    elif command == "events":
        for event in (find(folder, rest[0]) or {"events": []})["events"]:
            print(f"   {event['count']:3} × {event['reason']}: {event['message']}")
    else:
        value = find(folder, rest[0]) or {"pod": {}}
        value = value["pod"]
        for key in rest[1].split("."):
            value = value.get(key, {})
        print(value or "")


if __name__ == "__main__":
    main()
