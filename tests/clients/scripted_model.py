"""A model provider on loopback whose model follows a script, so that real clients can be driven offline.

It implements OpenAI chat completions and responses, Anthropic messages and Gemini generateContent, with and without streaming. The
script is a generator: it yields tool calls one by one and receives the results as the client shows them to its model. The return
value of the generator is the last message of the turn.
"""

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOOLS = ("check_status", "kill_run", "list_configs", "read_result", "run_massgen", "steer_run")


@dataclass(frozen=True)
class Call:
    """A call of a tool, by the server's name of the tool."""

    tool: str
    args: dict


@dataclass(frozen=True)
class Say:
    text: str


@dataclass(frozen=True)
class Function:
    """A call on the wire, by the client's name of the tool. The id distinguishes calls of the script from searches for tools."""

    id: str
    name: str
    args: dict
    namespace: str | None = None


@dataclass(frozen=True)
class Search:
    """The provider's own search for tools, for clients that defer tools (OpenAI's `tool_search`)."""

    query: str


@dataclass
class Tool:
    name: str
    description: str = ""
    schema: dict = field(default_factory=dict)
    namespace: str | None = None


@dataclass
class Request:
    """A client's request: its tools by the client's names, and the results of the script's calls by their ids."""

    tools: dict[str, Tool]
    results: dict[str, str]
    body: dict
    can_search: bool = False
    has_searched: bool = False

    def find(self, name):
        """The client's tool for a tool of the server: the same name, or the name with a prefix."""
        ends = re.compile(rf"(.*[^A-Za-z0-9])?{name}$")
        return next((tool for tool in self.tools.values() if ends.match(tool.name)), None)


def text_of(content):
    """The text of a result, in the form of any provider."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text_of(part) for part in content)
    if isinstance(content, dict):
        inner = next((content[key] for key in ("text", "output", "content") if key in content), None)
        return json.dumps(content, ensure_ascii=False) if inner is None else text_of(inner)
    return ""


class Chat:
    """OpenAI chat completions."""

    paths = ("/chat/completions",)

    @staticmethod
    def read(body):
        offered = [tool["function"] for tool in body.get("tools") or []]
        tools = {tool["name"]: Tool(tool["name"], tool.get("description", ""), tool.get("parameters", {})) for tool in offered}
        tool_messages = [message for message in body["messages"] if message["role"] == "tool"]
        return Request(tools, {message["tool_call_id"]: text_of(message["content"]) for message in tool_messages}, body)

    @staticmethod
    def write(reply, body, streams):
        base = {"id": "chatcmpl-1", "created": int(time.time()), "model": body.get("model", "scripted")}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        if isinstance(reply, Say):
            message, reason = {"role": "assistant", "content": reply.text}, "stop"
        else:
            function = {"name": reply.name, "arguments": json.dumps(reply.args)}
            call = {"index": 0, "id": reply.id, "type": "function", "function": function}
            message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        if not streams:
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
        chunk = {**base, "object": "chat.completion.chunk"}
        deltas = [{"index": 0, "delta": message, "finish_reason": None}, {"index": 0, "delta": {}, "finish_reason": reason}]
        return [{**chunk, "choices": [delta]} for delta in deltas] + [{**chunk, "choices": [], "usage": usage}, "[DONE]"]


class Responses:
    """OpenAI responses."""

    paths = ("/responses",)

    @classmethod
    def read(cls, body):
        items = body["input"] if isinstance(body["input"], list) else []
        searched = [item for item in items if item.get("type") == "tool_search_output"]
        offered = [*(body.get("tools") or []), *(tool for item in searched for tool in item.get("tools") or [])]
        tools = {tool.name: tool for tool in cls.tools(offered)}
        outputs = [item for item in items if item.get("type") == "function_call_output"]
        results = {item["call_id"]: text_of(item["output"]) for item in outputs}
        return Request(tools, results, body, any(tool.get("type") == "tool_search" for tool in offered), bool(searched))

    @classmethod
    def tools(cls, offered, namespace=None):
        for tool in offered:
            if tool.get("type") == "namespace":
                yield from cls.tools(tool["tools"], tool["name"])
            elif tool.get("type") == "function":
                yield Tool(tool["name"], tool.get("description", ""), tool.get("parameters", {}), namespace)

    @staticmethod
    def item(reply):
        if isinstance(reply, Say):
            text = {"type": "output_text", "text": reply.text, "annotations": []}
            return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
        if isinstance(reply, Search):
            args = {"query": reply.query, "limit": 20}
            kind = {"type": "tool_search_call", "execution": "client", "call_id": "search_1"}
            return {**kind, "id": "ts_1", "status": "completed", "arguments": args}
        item = {"type": "function_call", "id": f"fc_{reply.id}", "call_id": reply.id, "name": reply.name}
        space = {"namespace": reply.namespace} if reply.namespace else {}
        return {**item, **space, "arguments": json.dumps(reply.args), "status": "completed"}

    @classmethod
    def write(cls, reply, body, streams):
        item = cls.item(reply)
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        whole = {
            "id": "resp_1", "object": "response", "created_at": int(time.time()), "status": "completed",
            "model": body.get("model", "scripted"), "output": [item], "tools": [], "tool_choice": "auto",
            "parallel_tool_calls": False, "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
            "usage": {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110, **details},
        }
        if not streams:
            return whole
        started = {**whole, "status": "in_progress", "output": [], "usage": None}
        empty = {"message": {"content": []}, "function_call": {"arguments": ""}}.get(item["type"], {})
        events = [
            {"type": "response.created", "response": started},
            {"type": "response.output_item.added", "output_index": 0, "item": {**item, **empty, "status": "in_progress"}},
            *cls.deltas(item),
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        return [{**event, "sequence_number": number} for number, event in enumerate(events)]

    @staticmethod
    def deltas(item):
        at = {"item_id": item["id"], "output_index": 0}
        if item["type"] == "function_call":
            yield {"type": "response.function_call_arguments.delta", **at, "delta": item["arguments"]}
            yield {"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"], "name": item["name"]}
        if item["type"] == "message":
            at, part = {**at, "content_index": 0}, item["content"][0]
            yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
            yield {"type": "response.output_text.delta", **at, "delta": part["text"], "logprobs": []}
            yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
            yield {"type": "response.content_part.done", **at, "part": part}


class Messages:
    """Anthropic messages."""

    paths = ("/messages",)

    @staticmethod
    def read(body):
        offered = body.get("tools") or []
        tools = {tool["name"]: Tool(tool["name"], tool.get("description", ""), tool.get("input_schema", {})) for tool in offered}
        parts = [part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]]
        results = {part["tool_use_id"]: text_of(part.get("content")) for part in parts if part["type"] == "tool_result"}
        return Request(tools, results, body)

    @staticmethod
    def write(reply, body, streams):
        if isinstance(reply, Say):
            block, empty, reason = {"type": "text", "text": reply.text}, {"text": ""}, "end_turn"
            delta = {"type": "text_delta", "text": reply.text}
        else:
            block = {"type": "tool_use", "id": reply.id, "name": reply.name, "input": reply.args}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(reply.args)}
            empty, reason = {"input": {}}, "tool_use"
        usage = {"input_tokens": 100, "output_tokens": 10}
        ended = {"stop_reason": reason, "stop_sequence": None}
        whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model", "scripted"), "usage": usage}
        if not streams:
            return {**whole, "content": [block], **ended}
        return [
            {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {**block, **empty}},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": ended, "usage": usage},
            {"type": "message_stop"},
        ]


class Gemini:
    """Gemini generateContent."""

    paths = (":generateContent", ":streamGenerateContent")

    @staticmethod
    def read(body):
        groups = [tool.get("functionDeclarations") or [] for tool in body.get("tools") or []]
        schemas = ("parametersJsonSchema", "parameters_json_schema", "parameters")
        tools = {
            tool["name"]: Tool(tool["name"], tool.get("description", ""), next((tool[key] for key in schemas if key in tool), {}))
            for tool in sum(groups, [])
        }
        parts = [part for content in body["contents"] for part in content.get("parts") or []]
        answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
        # Match results by the order of the calls, because not every client keeps ids.
        results = {call_id(number): Gemini.text(answer["response"]) for number, answer in enumerate(answers)}
        return Request(tools, results, body)

    @staticmethod
    def text(response):
        return response["output"] if response.keys() == {"output"} else json.dumps(response, ensure_ascii=False)

    @staticmethod
    def write(reply, body, streams):
        part = {"text": reply.text} if isinstance(reply, Say) else {"functionCall": {"name": reply.name, "args": reply.args}}
        candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
        usage = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}
        whole = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}
        return [whole] if streams else whole


WIRES = (Chat, Responses, Messages, Gemini)


def call_id(number):
    return f"call_{number:04}"


class Model:
    """The provider: `with Model(script) as model`, with a client that uses `model.url`.

    With `sends_all`, each call has every property of the offered schema, empty if the script gives no value: models with strict
    schemas do the same.
    """

    def __init__(self, script, sends_all=False):
        self.script, self.sends_all = script, sends_all
        self.replies: list[Function | Say] = []
        self.is_over = False
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    def __enter__(self):
        handler = type("Bound", (Handler,), {"model": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, request):
        """The reply. A repeated request gets the same reply."""
        with self.lock:
            self.requests.append(request)
            wrap = deferring(request)
            if request.find(TOOLS[0]) is None:
                can_find = request.can_search and not request.has_searched
                # A request without the server's tools is for a title or a summary.
                return Search("massgen run check status read result kill list configs") if can_find else Say("ok")
            if wrap and not any(name.startswith("search_") for name in request.results):
                names = [tool.name for tool in request.tools.values() if any(tool.name.endswith(name) for name in TOOLS)]
                return Function("search_1", "tool_search", {"query": "select:" + ",".join(names), "max_results": 20})
            known = sum(call_id(number) in request.results for number in range(len(self.replies)))
            if known == len(self.replies):
                last = request.results[call_id(known - 1)] if known else None
                self.replies.append(self.advance(request, last))
            reply = self.replies[known]
            if wrap and isinstance(reply, Function):
                return Function(reply.id, "tool_call", {"name": reply.name, "arguments": reply.args})
            return reply

    def advance(self, request, result):
        try:
            call = self.script.send(result)
        except StopIteration as end:
            self.is_over = True
            return Say(end.value)
        tool = request.find(call.tool)
        if tool is None:
            return Say(f"no tool {call.tool} was offered")
        args = {**emptied(tool.schema), **call.args} if self.sends_all else call.args
        return Function(call_id(len(self.replies)), tool.name, args, tool.namespace)


def deferring(request):
    """Adds the tools that a client names only in its messages and calls through its `tool_call`."""
    if not {"tool_search", "tool_call"} <= request.tools.keys():
        return False
    named = set(re.findall(r"mcp__\w+", json.dumps(request.body.get("messages"))))
    deferred = named - request.tools.keys()
    request.tools.update({name: Tool(name) for name in sorted(deferred)})
    return bool(deferred)


def emptied(schema):
    """An empty value for each property of an object."""
    return {name: empty(inner, schema.get("$defs", {})) for name, inner in schema.get("properties", {}).items()}


def empty(schema, defs):
    if "$ref" in schema:
        schema = defs.get(schema["$ref"].rsplit("/", 1)[-1], {})
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return emptied(schema)
    return {"string": "", "array": [], "boolean": False, "number": 0, "integer": 0}.get(kind)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def log_message(self, *_):
        pass

    def send(self, kind, text, status=200):
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_json(self, value, status=200):
        self.send("application/json", json.dumps(value), status)

    def send_events(self, events):
        texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
        names = [f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else "" for event in events]
        self.send("text/event-stream", "".join(f"{name}data: {text}\n\n" for name, text in zip(names, texts)))

    def do_GET(self):
        if self.headers.get("upgrade"):
            return self.send_json({"error": {"message": "there are no web sockets here"}}, 426)
        known = {"id": "scripted", "object": "model", "created": 1, "owned_by": "test"}
        self.send_json({"object": "list", "data": [known], "models": []}, 200 if "models" in self.path else 404)

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_POST(self):
        path, data = self.path.split("?")[0], self.body()
        if path.endswith(("countTokens", "count_tokens")):
            return self.send_json({"totalTokens": 100, "input_tokens": 100})
        wire = next((wire for wire in WIRES if path.endswith(wire.paths)), None)
        if wire is None:
            return self.send_json({"error": {"message": f"nothing is at {path}"}}, 404)
        body = json.loads(data)
        reply = self.model.answer(wire.read(body))
        streams = body.get("stream") or path.endswith(":streamGenerateContent")
        written = wire.write(reply, body, streams)
        try:
            (self.send_events if streams else self.send_json)(written)
        except OSError:
            pass  # The client has gone.
