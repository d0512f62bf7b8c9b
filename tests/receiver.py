"""One of the shop's systems, to which webhooks are sent."""

import http.server
import json
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Receiver:
    """Hears what is sent to it. `status`, `answer`, `location`: what it answers."""

    status: int = 200
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    location: str | None = None
    answer: bytes = b"ok\n"

    def __post_init__(self) -> None:
        receiver = self

        class Answering(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002 - as in the library
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.heard]

    def has_heard_the_end(self, order_id: str) -> bool:
        return self.of_order(order_id)[-1:] == ["OrderConfirmed"]

    def of_order(self, order_id: str) -> list[str]:
        """The types that were heard of an order, in order."""
        return [
            one["type"]
            for one in self.bodies()
            if one.get("aggregateId") == order_id or one["data"].get("orderId") == order_id
        ]
