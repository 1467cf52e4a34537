"""Describes what a client shows its model, for the table in docs/clients.md, and writes that table."""

import json

import agent_loop

FIRST, LAST = "<!-- clients: written by scripts/clients --all -->", "<!-- clients end -->"
HEAD = ["client", "as documented", "by default", "killed", "tool name", "schemas", "instructions", "result", "page"]


def what(model, truth, checks):
    """The values of a table row."""
    first = next((request for request in model.requests if request.can_search or request.find("run_massgen")), None)
    offers = [request for request in model.requests if request.find("run_massgen")]
    if not offers:
        return {}
    tools = {name: tool for name in truth.tools if (tool := offers[-1].find(name))}
    run = tools["run_massgen"]
    deferred = "after a search " if first.find("run_massgen") is None else ""
    return {
        "name": f"{run.namespace} / {run.name}" if run.namespace else run.name,
        "schemas": deferred + schemas(tools, truth),
        "instructions": instructions(first, truth),
        "result": result(checks.page),
        "page": checks.page_chars,
    }


def schemas(tools, truth):
    """The difference between the client's and the server's schemas, by keyword."""
    if not any(tool.schema for tool in tools.values()):
        return "after a search"
    gone, new = set(), set()
    for name, tool in tools.items():
        ours, theirs = keywords(truth.tools[name]["inputSchema"]), keywords(tool.schema)
        gone |= outermost(ours - theirs)
        new |= outermost(theirs - ours)
    gone, new = gone - {"$schema", "title"}, new - {"$schema", "title"}
    if not gone and not new:
        return "whole"
    lacking = f"without {', '.join(sorted(gone))}" if gone else ""
    added = f"with {', '.join(sorted(new))} added" if new else ""
    return "; ".join(filter(None, [lacking, added]))


def keywords(schema, place=""):
    """The paths of all keywords and properties."""
    found = set()
    if isinstance(schema, dict):
        for key, value in schema.items():
            found |= keywords(value, f"{place}/{key}") | {f"{place}/{key}"}
    if isinstance(schema, list):
        for value in schema:
            found |= keywords(value, place)
    return found


def outermost(places):
    """The last components of the paths that have no parent in the set."""
    return {place.rsplit("/", 1)[-1] for place in places if place.rsplit("/", 1)[0] not in places}


def instructions(request, truth):
    """Which part of the server's instructions a request contains."""
    text = " ".join(agent_loop.words(json.dumps(request.body, ensure_ascii=False)))
    lines = [" ".join(agent_loop.words(line)) for line in truth.instructions.splitlines()]
    seen = [line in text for line in lines if line]
    if all(seen):
        return "whole"
    return "first line" if seen[0] else "no"


def result(page):
    """The form of a result that the model sees."""
    times = sum("sha256" in found for found in agent_loop.objects(page))
    twice = ", twice" if times > 1 else ""
    try:
        value = json.loads(page)
    except ValueError:
        return ("JSON among other text" if times else "text") + twice
    if isinstance(value, dict) and "sha256" in value:
        return "JSON" + twice
    return "JSON inside of JSON" + twice


def write_table(document, outcomes):
    """Writes the table between its markers."""
    by_client = {}
    for outcome in outcomes:
        by_client.setdefault(outcome.client["id"], {})[outcome.setting] = outcome
    rows = [HEAD, ["---"] * len(HEAD), *(row(known) for known in by_client.values())]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
    text = document.read_text()
    before, after = text.split(FIRST)[0], text.split(LAST)[1]
    document.write_text(f"{before}{FIRST}\n{table}{LAST}{after}")


def row(known):
    documented = known["documented"]
    facts, client = documented.shown, documented.client
    default = known.get("default", documented)
    server = "server stays" if client.get("leaves") else "server ends"
    return [
        f"{client['name']} {client['version']}",
        passed(documented),
        passed(default) if not default.failed else client.get("refuses_by_default", passed(default)),
        f"{server}, run goes on" if not known["killed"].failed else passed(known["killed"]),
        f"`{facts.get('name', '')}`",
        facts.get("schemas", ""),
        facts.get("instructions", ""),
        facts.get("result", ""),
        f"{facts.get('page', 0):,}",
    ]


def passed(outcome):
    return f"passes, {outcome.seconds:.0f} s" if not outcome.failed else f"fails at {', '.join(outcome.failed)}"
