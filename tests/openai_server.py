"""A small chat endpoint over the stock `generate` of transformers: `python tests/openai_server.py CHECKPOINT`.

Prints its port. It refuses requests that leave any sampling field to the checkpoint, and knows nothing of medr1's own
engine: only the loader is shared, because stock transformers has no processor without torchvision.
"""

import base64
import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from PIL import Image

from medr1.models.loading import load_model, load_processor

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed", "n")


class Checkpoint:
    """Answers one conversation at a time."""

    def __init__(self, folder: str) -> None:
        self.model, self.processor = load_model(folder, dtype="float32"), load_processor(folder)
        self.lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of the reply."""
        messages, images = template_messages(body["messages"])
        text = self.processor.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=body.get("add_generation_prompt", True),
            continue_final_message=body.get("continue_final_message", False),
        )
        inputs = self.processor(text=[text], images=images or None, return_tensors="pt")
        sampled = body["temperature"] > 0
        filters = {"temperature": body["temperature"], "top_k": max(0, body["top_k"]), "top_p": body["top_p"]}
        with self.lock, torch.no_grad():
            torch.manual_seed(body["seed"])
            output = self.model.generate(
                **inputs,
                max_new_tokens=body["max_tokens"],
                do_sample=sampled,
                repetition_penalty=body["repetition_penalty"],
                **(filters if sampled else {}),
            )
        ids = output[0, inputs["input_ids"].shape[1] :]
        ended = int(ids[-1]) == self.processor.tokenizer.eos_token_id
        message = {"role": "assistant", "content": self.processor.decode(ids, skip_special_tokens=True)}
        return {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop" if ended else "length"}],
            "usage": {"completion_tokens": len(ids)},
        }


def template_messages(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """Messages as chat templates take them, and the pictures out of their `data:` addresses."""
    images, ours = [], []
    for message in messages:
        parts = message["content"]
        parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
        for part in parts:
            if part["type"] == "image_url":
                encoded = part["image_url"]["url"].removeprefix("data:image/png;base64,")
                images.append(Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)), formats=["PNG"]))
        content = [{"type": "image"} if part["type"] == "image_url" else part for part in parts]
        ours.append({"role": message["role"], "content": content})
    return ours, images


class Handler(BaseHTTPRequestHandler):
    """The two routes of OpenAI's protocol that evaluation needs."""

    protocol_version = "HTTP/1.1"
    checkpoint: Checkpoint

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        missing = [name for name in SAMPLING if name not in body]
        if missing:
            self.reply(400, {"error": {"message": f"fields are left to the checkpoint: {missing}"}})
        else:
            self.reply(200, self.checkpoint.answer(body))

    def reply(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


if __name__ == "__main__":
    torch.set_num_threads(1)
    Handler.checkpoint = Checkpoint(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
