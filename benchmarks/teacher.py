"""The endpoint client against the rate that a loopback server can give: 64 requests in flight, each answered later.

    python benchmarks/teacher.py [--requests 2560] [--latency 1] [--in-flight 64] [--rounds 3] [--output FILE.json]

The server is another process and answers as many requests at once as are in flight, each after ``--latency`` seconds:
its capacity is in-flight / latency. Timed beside ours: bare sockets that send the same bytes again and again and read
no more than a length, the fastest that there is here; ours also builds requests, reads answers, and journals each.
Equal answers are asserted. Wall time; the rounds alternate, and the ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fewtable.files import write_json
from fewtable.teachers.annotate import Places, annotate
from fewtable.teachers.prompts import messages
from fewtable.teachers.spec import TeacherSpec

SERVER = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "chat_server.py"


def passage(number: int) -> str:
    """Return a passage of about 200 words, all different."""
    return f"Passage {number}: " + " ".join(
        f"Ann met Bob{(number * 7 + i) % 31} in the city of Oslo{i}." for i in range(25)
    )


async def bare(port: int, spec: TeacherSpec, requests: int, in_flight: int) -> float:
    """Send all requests over bare sockets; return the seconds."""
    assert spec.endpoint

    def raw(number: int) -> bytes:
        body = {"model": "m", "messages": messages("type", passage(number)), **spec.endpoint.params}  # type: ignore[union-attr]
        payload = json.dumps(body).encode()
        return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload

    sent = [raw(number) for number in range(requests)]
    left = iter(sent)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in left:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return time.perf_counter() - started


def ours(spec: TeacherSpec, requests: int) -> tuple[float, float, bytes]:
    """Annotate; return the seconds until the last answer was journalled, the CPU seconds, and the answers."""
    with tempfile.TemporaryDirectory() as folder:
        places = Places.of("t", "c", Path(folder))
        places.passages.parent.mkdir(parents=True)
        rows = (json.dumps({"id": f"passage-{i:06d}", "text": passage(i), "tokens": 200}) for i in range(requests))
        places.passages.write_text("\n".join(rows) + "\n")
        started, used = time.perf_counter(), time.process_time()
        annotate(spec, places)
        ended = places.journal.stat().st_mtime - time.time() + time.perf_counter()
        return ended - started, time.process_time() - used, (places.output / "answers.jsonl").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2560)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    command = [sys.executable, str(SERVER), "--latency", str(args.latency), "--slots", str(args.in_flight)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        port = int(server.stdout.readline())
        endpoint = {"url": f"http://127.0.0.1:{port}/v1", "model": "m", "in_flight": args.in_flight}
        spec = TeacherSpec.model_validate({"title": "T", "endpoint": endpoint})
        ours(spec, 64)  # imports
        capacity = args.in_flight / args.latency
        rows, first = [], b""
        for _ in range(args.rounds):
            plain = asyncio.run(bare(port, spec, args.requests, args.in_flight))
            seconds, used, answers = ours(spec, args.requests)
            first = first or answers
            assert answers == first, "the answers differ"
            rate = args.requests / seconds
            rows.append({"bare": args.requests / plain, "ours": rate, "of_bare": plain / seconds, "cpu": used})
            print(
                f"capacity {capacity:.0f}/s, bare sockets {rows[-1]['bare']:.1f}/s, ours {rate:.1f}/s:"
                f" {100 * rate / capacity:.1f} % of capacity, {100 * plain / seconds:.1f} % of bare sockets,"
                f" {1e3 * used / args.requests:.2f} ms CPU a request",
                flush=True,
            )
    finally:
        server.terminate()
        server.wait()
    share = statistics.median(row["ours"] for row in rows) / capacity
    print(f"median: {100 * share:.1f} % of capacity (wanted: 95 %)")
    if args.output:
        write_json(args.output, {"capacity": capacity, "rounds": rows, "share": share})


if __name__ == "__main__":
    main()
