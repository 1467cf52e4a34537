"""The script of the model: its calls to the server (start, wait, read, refusals, kill), and checks of what the client showed it."""

import hashlib
import json
import re

from scripted_model import Call

# The parameter of run_massgen for the config.
CONFIG = "massgen_config"
# A client with a short timeout gets several short waits instead of one long wait.
MAX_WAITS = 60
OVER = ("succeeded", "failed", "timed_out", "over_budget", "killed", "lost")


class Checks:
    """The steps of a script in order, each with its failure or None."""

    def __init__(self):
        self.steps: dict[str, str | None] = {}
        # The length of the answer's first page, and that page as the client showed it.
        self.page_chars, self.page = 0, ""
        # The run that continues when the client is killed.
        self.run_id = ""

    def hold(self, step, holds, shown):
        """Records a check of a step. The first failed check of a step stores what the model was shown."""
        known = self.steps.get(step)
        self.steps[step] = known if known or holds else f"the model was shown: {shortened(shown)}"

    def failed(self):
        return {step: why for step, why in self.steps.items() if why}


def shortened(text):
    text = " ".join((text or "nothing").split())
    return text if len(text) <= 600 else f"{text[:450]} […] {text[-150:]}"


def objects(text):
    """Every JSON object in a text, also in strings inside JSON: clients wrap, fence and escape results."""
    decoder, at = json.JSONDecoder(), 0
    while start := re.compile(r"[\[{]").search(text, at):
        try:
            value, at = decoder.raw_decode(text, start.start())
        except ValueError:
            at = start.start() + 1
            continue
        yield from inside(value)


def inside(value):
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from inside(inner)
    elif isinstance(value, str) and "{" in value:
        yield from objects(value)


def value_of(text, key, default=None):
    """The first value of a key in a text that the model was shown."""
    return next((found[key] for found in objects(text or "") if key in found), default)


def page_of(text):
    """The page of an answer in a text that the model was shown; empty if the client truncated it."""
    return next((found for found in objects(text or "") if "total_chars" in found), {})


NO_CONFIG = Call("run_massgen", {"question": "What is 2+2?", CONFIG: "no-such.yaml"})
NO_RUN = Call("read_result", {"run_id": "mg-00000000"})


def all_calls(checks, script_question, chars, refusals):
    """All calls of an agent. `script_question` is the question that contains the script of the stand-in, `chars` is the length of
    the answer, `refusals` are the server's refusals of NO_CONFIG and NO_RUN."""
    shown = yield Call("list_configs", {"query": "rehearsal"})
    checks.hold("list", "@rehearsal" in (shown or ""), shown)

    shown = yield Call("run_massgen", {"question": script_question, CONFIG: f"@rehearsal/chars={chars}"})
    run_id = value_of(shown, "run_id", "")
    checks.hold("start", run_id.startswith("mg-"), shown)
    if not run_id:
        return "No run was started."

    shown = yield from wait(run_id, value_of(shown, "cursor"), OVER, checks)
    checks.hold("wait", value_of(shown, "state") == "succeeded", shown)

    yield from read(checks, run_id, chars)

    for call, refusal in zip((NO_CONFIG, NO_RUN), refusals):
        shown = yield call
        # Clients escape and wrap the text, so compare words.
        checks.hold("refusal", " ".join(words(refusal)) in " ".join(words(shown)), shown)

    yield from kill(checks)
    shown = yield Call("check_status", {})
    checks.hold("list runs", {run_id, "killed"} <= set(words(shown)), shown)
    return "All done."


def wait(run_id, cursor, states, checks):
    """Waits as the tool descriptions say, until the run is in one of the states. A client may time out once: then the server knows
    the client's timeout."""
    timed_out_waits, until = 0, "any_done" if states == OVER else "change"
    for _ in range(MAX_WAITS):
        since = {"since": cursor} if cursor else {}
        shown = yield Call("check_status", {"run_id": run_id, "wait_s": 45, "until": until, **since})
        timed_out_waits += value_of(shown, "runs") is None
        cursor = value_of(shown, "cursor", cursor)
        if value_of(shown, "state") in states:
            break
    checks.hold("wait", timed_out_waits <= 1, f"{timed_out_waits} waits were given up")
    return shown


def read(checks, run_id, chars):
    """Reads all pages of the answer, with the server's page length, and joins them."""
    text, offset, shown = "", 0, None
    while isinstance(offset, int):
        shown = yield Call("read_result", {"run_id": run_id, "offset": offset})
        page = page_of(shown)
        text += page.get("text", "")
        checks.page_chars, checks.page = checks.page_chars or len(text), checks.page or shown or ""
        next_offset = page.get("next_offset")
        offset = next_offset if next_offset is None or next_offset > offset else None
    is_whole = hashlib.sha256(text.encode()).hexdigest() == page_of(shown).get("sha256")
    checks.hold("read", is_whole and len(text) == chars, shown)


def kill(checks):
    shown = yield Call("run_massgen", {"question": "#!fake\nannounce\nforever", CONFIG: "@rehearsal/hang"})
    run_id = value_of(shown, "run_id", "")
    if value_of(shown, "state") != "running":
        shown = yield from wait(run_id, value_of(shown, "cursor"), ("running", *OVER), checks)
    checks.hold("kill", value_of(shown, "state") == "running", shown)
    shown = yield Call("kill_run", {"run_id": run_id, "grace_s": 1, "reason": "enough seen"})
    checks.hold("kill", value_of(shown, "state") == "killed" and value_of(shown, "survivors") == [], shown)


def words(text):
    """The words of a text, without escaped line ends of nested JSON."""
    return re.findall(r"[\w-]+", re.sub(r"\\+[nrt]", " ", text or ""))


def wait_without_end(checks):
    """Starts a run that never ends and waits for it; the client is killed meanwhile."""
    shown = yield Call("run_massgen", {"question": "#!fake\nannounce\nforever", CONFIG: "@rehearsal/hang"})
    checks.run_id = value_of(shown, "run_id", "")
    if not checks.run_id:
        return "No run was started."
    for _ in range(MAX_WAITS):
        yield Call("check_status", {"run_id": checks.run_id, "wait_s": 45, "until": "all_done"})
    return "All done."
