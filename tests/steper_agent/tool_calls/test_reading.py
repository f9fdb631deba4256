"""A call is read in whatever form a model writes it; nothing a model writes makes the reader raise, stall or guess."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_agent.tool_calls.lenient_json import Found, read_json
from steper_agent.tool_calls.reading import MOST_CALLS, CallReading, CallStream, check_call, read_calls


def tool(name, required=(), **properties):
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


SEARCH = tool("search", ["query"], query={"type": "string"}, k={"type": "integer"})
SUM = tool("sum", ["a", "b"], a={"type": "number"}, b={"type": "number"}, exact={"type": "boolean"})
PICK = tool("pick", ["of"], of={"type": "array", "items": {"type": "integer"}}, how={"enum": ["first", "last"]})
NOTE = tool("note", ["text"], text={"anyOf": [{"type": "string"}, {"type": "null"}]}, tags={"type": ["array", "null"]})
TOOLS = [SEARCH, SUM, PICK, NOTE, tool("now")]
EMMA = ("search", {"query": "Who wrote Emma?"})
CALL = '{"name": "search", "arguments": {"query": "Who wrote Emma?"}}'
OPENAI = json.dumps({"id": "c1", "type": "function", "function": {"name": "search", "arguments": json.dumps(EMMA[1])}})


def pairs(reading: CallReading):
    assert all(call["id"] == "" and call["type"] == "tool_call" for call in reading.calls)
    return [(call["name"], call["args"]) for call in reading.calls]


def streamed(pieces) -> CallReading:
    stream = CallStream(TOOLS)
    said = "".join([stream.push(piece) for piece in pieces])
    last = stream.close()
    return last._replace(text=(said + last.text).strip())


FORMATS = {
    "hermes": f"<tool_call>\n{CALL}\n</tool_call>",
    "hermes, not closed": f"<tool_call>{CALL}",
    "hermes, in a fence": f"```xml\n<tool_call>\n{CALL}\n</tool_call>\n```",
    "hermes around a fence": f"<tool_call>\n```json\n{CALL}\n```\n</tool_call>",
    "hermes, tag said twice": f"<tool_call>\n<tool_call>\n{CALL}\n</tool_call>",
    "hermes, array": f"<tool_call>[{CALL}]</tool_call>",
    "qwen coder": "<tool_call>\n<function=search>\n<parameter=query>\nWho wrote Emma?\n</parameter>\n</function>\n</tool_call>",
    "qwen coder, not closed": "<function=search><parameter=query>Who wrote Emma?",
    "llama, bare": '{"name": "search", "parameters": {"query": "Who wrote Emma?"}}',
    "llama, keys turned round": '{"type": "function", "parameters": {"query": "Who wrote Emma?"}, "name": "search"}',
    "llama, python tag": f"<|python_tag|>{CALL}",
    "llama, python call": '<|python_tag|>search.call(query="Who wrote Emma?")',
    "llama, function tag": '<function=search>{"query": "Who wrote Emma?"}</function>',
    "openai, list": f"[{OPENAI}]",
    "openai, object": f'{{"content": null, "tool_calls": [{OPENAI}]}}',
    "fenced": f"```json\n{CALL}\n```",
    "fenced, no language": f"```\n{CALL}\n```",
    "mistral": f"[TOOL_CALLS] [{CALL}]",
    "mistral, name in front": '[TOOL_CALLS]search{"query": "Who wrote Emma?"}',
    "mistral, name and marks": '[TOOL_CALLS]search[CALL_ID]c1[ARGS]{"query": "Who wrote Emma?"}',
    "function and input": '{"function": "search", "input": {"query": "Who wrote Emma?"}}',
}


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_every_format_is_read_alone_and_after_prose(text):
    assert read_calls(text, TOOLS) == read_calls(f"\n {text}\n", TOOLS)
    assert pairs(read_calls(text, TOOLS)) == [EMMA]
    assert read_calls(text, TOOLS).text == ""
    mixed = read_calls(f"I look it up.\n{text}", TOOLS)
    assert (mixed.text, pairs(mixed), mixed.faults) == ("I look it up.", [EMMA], ())


@pytest.mark.parametrize("text", [t for n, t in FORMATS.items() if "not closed" not in n])
def test_prose_after_a_call_and_calls_in_turn_are_read(text):
    turn = read_calls(f"First.\n{text}\nThen. {text}\nLast.", TOOLS)
    assert pairs(turn) == [EMMA, EMMA]
    assert turn.text.split() == ["First.", "Then.", "Last."]


@pytest.mark.parametrize("between", ["; ", "\n", ", ", ""])
@pytest.mark.parametrize("tag", ["", "<tool_call>", "<|python_tag|>", "[TOOL_CALLS]"])
def test_several_json_calls_in_a_row_are_read(tag, between):
    turn = read_calls(tag + between.join([CALL, '{"name": "now", "arguments": {}}', CALL]), TOOLS)
    assert (pairs(turn), turn.text, turn.faults) == ([EMMA, ("now", {}), EMMA], "", ())


TEXTS = {
    "prose": "a < b, [1], {x} and `code`; see [the page](url).",
    "an answer in JSON": '{"name": "Jane Austen", "born": 1775}',
    "a list in JSON": '[{"name": "search"}, {"name": "sum"}]',
    "a call of nobody's tool": '{"name": "lookup", "arguments": {"query": "x"}}',
    "a fenced answer": '```json\n{"answer": [1, 2]}\n```',
    "code": "```python\nprint({'a': 1})\n```",
    "a tag inside an answer in JSON": '{"answer": "write <tool_call> first"}',
    "half a tag": "x <tool_cal",
    "nothing": "",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_no_call_stays_text(text):
    assert read_calls(text, TOOLS) == CallReading(text, (), ())


def test_what_only_looks_like_json_hides_no_call():
    for call in (CALL, f"<tool_call>{CALL}</tool_call>"):
        assert pairs(read_calls(f'A {{"brace and {{"a quote. {call}', TOOLS)) == [EMMA]


def test_an_open_fence_before_a_call_keeps_its_closer():
    turn = read_calls(f"```python\nx\n```\n{FORMATS['hermes']}", TOOLS)
    assert (turn.text, pairs(turn)) == ("```python\nx\n```", [EMMA])


TOLERATED = {
    "arguments as a JSON string": ("search", r'"{\"query\": \"x\"}"', {"query": "x"}),
    "arguments encoded twice": ("search", json.dumps(json.dumps('{"query": "x"}')), {"query": "x"}),
    "trailing commas": ("pick", '{"of": [1, 2,],}', {"of": [1, 2]}),
    "python literals": ("sum", "{'a': 1, 'b': -.5, 'exact': True}", {"a": 1, "b": -0.5, "exact": True}),
    "an apostrophe": ("search", '{"query": "it\'s"}', {"query": "it's"}),
    "raw control characters": ("search", '{"query": "a\nb\tc\x00"}', {"query": "a\nb\tc\x00"}),
    "a backslash that escapes nothing": ("search", r'{"query": "\alpha \\ \u0041"}', {"query": r"\alpha \ A"}),
    "a name in another case": (" Search ", '{"query": "x"}', {"query": "x"}),
    "a plain string": ("search", '"Who wrote Emma?"', EMMA[1]),
    "a number for a string": ("search", '{"query": 1984}', {"query": "1984"}),
    "a boolean for a string": ("search", '{"query": true}', {"query": "true"}),
    "strings for numbers": ("sum", '{"a": "1", "b": "2.5", "exact": "true"}', {"a": 1, "b": 2.5, "exact": True}),
    "a float for an integer": ("search", '{"query": "x", "k": 3.0}', {"query": "x", "k": 3}),
    "a string for a list": ("pick", '{"of": "[1, \\"2\\"]"}', {"of": [1, 2]}),
    "extra arguments": ("search", '{"query": "x", "lang": "en"}', {"query": "x"}),
    "null for what is optional": ("search", '{"query": "x", "k": null}', {"query": "x"}),
    "null where null is a value": ("note", '{"text": null, "tags": null}', {"text": None, "tags": None}),
    "a string where a string may stand": ("note", '{"text": "5"}', {"text": "5"}),
    "null for no arguments": ("now", "null", {}),
    "a surrogate pair and a lone one": ("search", r'{"query": "\ud83d\ude42 \ud800"}', {"query": "🙂 \ufffd"}),
}


@pytest.mark.parametrize(("name", "arguments", "expected"), TOLERATED.values(), ids=TOLERATED)
def test_what_is_plainly_meant_is_put_right(name, arguments, expected):
    tagged = f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'
    bare = f'{{"arguments": {arguments}, "name": "{name}"}}'
    for text in (tagged, bare):
        turn = read_calls(text, TOOLS)
        assert (pairs(turn), turn.text, turn.faults) == ([(name.strip().lower(), expected)], "", ())


CUT = {
    "cut in a string": ("search", '{"query": "x y', {"query": "x y"}),
    "cut in an escape": ("search", '{"query": "x\\u00', {"query": "x"}),
    "cut in a key": ("search", '{"query": "x", "k', {"query": "x"}),
    "cut before a value": ("search", '{"query": "x", "k": ', {"query": "x"}),
    "cut in a word": ("search", '{"query": "x", "k": nul', {"query": "x"}),
    "cut in a list": ("pick", '{"of": [1, 2', {"of": [1, 2]}),
}


@pytest.mark.parametrize("tag", ["<tool_call>\n", "<|python_tag|>", "[TOOL_CALLS]", "```json\n", ""])
@pytest.mark.parametrize(("name", "arguments", "expected"), CUT.values(), ids=CUT)
def test_a_call_that_breaks_off_at_the_end_is_closed(name, arguments, expected, tag):
    turn = read_calls(f'Well. {tag}{{"name": "{name}", "arguments": {arguments}', TOOLS)
    assert (pairs(turn), turn.text, turn.faults) == ([(name, expected)], "Well.", ())


def test_a_closing_tag_ends_what_is_not_closed_and_is_data_inside_a_string():
    cut = read_calls('<tool_call>{"name": "search", "arguments": {"query": "x</tool_call> Wait.', TOOLS)
    assert (pairs(cut), cut.text) == ([("search", {"query": "x"})], "Wait.")
    held = read_calls('<tool_call>{"name": "search", "arguments": {"query": "</tool_call>"}}</tool_call>', TOOLS)
    assert (pairs(held), held.text) == ([("search", {"query": "</tool_call>"})], "")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"name": "lookup", "arguments": {}}', ['no tool "lookup"', "search, sum, pick, note, now"]),
        ('{"arguments": {"query": "x"}}', ["names no tool"]),
        ('{"name": "search", "arguments": {}}', ['"query" is missing', '{"query": "…"}']),
        ('{"name": "search", "arguments": {"query": " \\n"}}', ['"query" is missing']),
        ('{"name": "search", "arguments": {"query": null}}', ['"query" is missing']),
        ('{"name": "search", "arguments": {"query": ["x"]}}', ['"query" must be of type string']),
        ('{"name": "search", "arguments": {"query": "x", "k": "many"}}', ['"k" must be of type integer']),
        ('{"name": "search", "arguments": {"query": "x", "k": 1.5}}', ['"k" must be of type integer']),
        ('{"name": "search", "arguments": [1]}', ["must be a JSON object"]),
        ('{"name": "sum", "arguments": "1 and 2"}', ["must be a JSON object"]),
        ('{"name": "sum", "arguments": {"a": 1e999, "b": 2}}', ["could not be read"]),
        ('{"name": "sum", "arguments": {"a": true, "b": 2}}', ['"a" must be of type number']),
        ('{"name": "pick", "arguments": {"of": [1, "x"]}}', ['"of" must be of type integer']),
        ('{"name": "pick", "arguments": {"of": [], "how": "any"}}', ['"how" must be one of ["first", "last"]']),
        ('{"name": "note", "arguments": {"text": {}}}', ['"text" must be of type string or null']),
        ('{"name": "search", "arguments": {"query": "a "b" c"}}', ["could not be read", '"," or "}" is missing']),
        ('{"name": "search", "arguments": {"k": %s}}' % ("9" * 5000), ["could not be read"]),
        ('{"name": "search", "arguments": {"query": "x", "k": %s}}' % ("9" * 500), ['"k" is not a JSON value']),
        ("[" * 99, ["nested deeper"]),
        ('{"name": "search", "arguments": {"query": "%s"}}' % ("x" * 99_999), ["longer than"]),
        ("look for Emma", ["no call follows"]),
        ("", ["no call follows"]),
        ("<function=>", ["has no name"]),
        ("7", ["no call follows"]),
        ("[7]", ["names no tool"]),
    ],
)
def test_a_fault_says_what_is_wrong_and_how_to_write_it_right(body, words):
    turn = read_calls(f"Well. <tool_call>{body}</tool_call>", TOOLS)
    assert (turn.text, turn.calls, len(turn.faults)) == ("Well.", (), 1)
    assert all(word in turn.faults[0] for word in [*words, "write {"])
    assert len(turn.faults[0]) < 300


def test_bare_json_of_a_known_tool_is_a_fault_where_it_is_malformed():
    turn = read_calls('{"name": "search", "arguments": {"query": "a "b" c"}}\n\nThat is all.', TOOLS)
    assert (turn.text, turn.calls, len(turn.faults)) == ("That is all.", (), 1)


def test_a_fault_does_not_spoil_its_neighbours():
    turn = read_calls(f"<tool_call>{{oops}}</tool_call> So: <tool_call>{CALL}</tool_call>", TOOLS)
    assert (turn.text, pairs(turn), len(turn.faults)) == ("So:", [EMMA], 1)


def test_without_tools_the_model_is_told_to_answer():
    assert "answer in words" in read_calls(FORMATS["hermes"], []).faults[0]


def test_no_more_calls_are_read_than_the_cap():
    turn = read_calls(FORMATS["hermes"] * (MOST_CALLS + 1), TOOLS)
    assert (len(turn.calls), len(turn.faults)) == (MOST_CALLS, 1)
    assert read_calls(FORMATS["hermes"] * MOST_CALLS, TOOLS).faults == ()


def test_a_providers_call_is_checked_alike():
    assert check_call("search", {"query": 7, "k": "2"}, TOOLS)[0]["args"] == {"query": "7", "k": 2}
    assert check_call("search", None, TOOLS) == (None, read_calls("<function=search></function>", TOOLS).faults[0])
    deep = []
    for _ in range(5000):
        deep = [deep]
    for name, arguments in [(None, {}), ("note", {"tags": deep, "text": ""}), ("now", {1}), ("note", {"tags": [{1}]})]:
        call, fault = check_call(name, arguments, TOOLS)
        assert call is None
        assert fault


def test_other_arguments_are_kept_where_the_schema_takes_them():
    loose = {"type": "function", "function": {"name": "loose", "parameters": {"additionalProperties": True}}}
    free = {"type": "function", "function": {"name": "free"}}
    for one in (loose, free):
        assert check_call(one["function"]["name"], '{"x": [1]}', [one])[0]["args"] == {"x": [1]}


MARKS = """
    <tool_call> </tool_call> <function=search> </function> <parameter=query> </parameter> <|python_tag|> [TOOL_CALLS]
    [ARGS] ``` ```json ` search search( .call( query= ) { } [ ] [{ {' {" " ' : , ; < \\ \\u
"""
FRAGMENTS = [
    *FORMATS.values(),
    *TEXTS.values(),
    *MARKS.split(),
    *(" ", "\n", "\n\n", "\x00", "\x1b", "\ud800", "9" * 30, "1e999", "NaN", "tru", "Emma. ", "<b>", "x" * 40),
    *('{"name": "search"', '"arguments": {', '"query": "x"', '{"name": "search", "arguments": {"query": "x'),
    *('{"name": "Sum", "args": {"a": 1, b}}', "[[[[", '{"a":' * 70),
]
OUTPUTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=10).map("".join)


@settings(deadline=None, max_examples=200)
@given(st.text() | OUTPUTS)
def test_any_text_is_read_and_every_call_is_sound(text):
    turn = read_calls(text, TOOLS)
    assert all(check_call(name, args, TOOLS)[0]["args"] == args for name, args in pairs(turn))
    json.dumps(pairs(turn), allow_nan=False, ensure_ascii=False).encode()
    "".join(turn.faults).encode()


@settings(deadline=None, max_examples=250)
@given(OUTPUTS, st.lists(st.integers(0, 400), max_size=20))
def test_however_a_turn_is_cut_it_is_read_alike(text, cuts):
    cuts = sorted({0, *(cut for cut in cuts if cut < len(text))})
    whole = read_calls(text, TOOLS)
    assert streamed([text[at:end] for at, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]) == whole
    assert streamed(text) == whole


def raw(text: str) -> str:
    """A string as careless models write it: quotes and backslashes escaped, control characters not."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


WRITERS = {
    "hermes": lambda q: f"<tool_call>{json.dumps({'name': 'search', 'arguments': {'query': q}})}</tool_call>",
    "raw hermes": lambda q: f'<tool_call>{{"name": "search", "arguments": {{"query": "{raw(q)}"}}}}</tool_call>',
    "qwen coder": lambda q: f"<function=search><parameter=query>\n{q.replace('<', '(')}\n</parameter></function>",
    "function tag": lambda q: f"<function=search>{json.dumps({'query': q})}</function>",
    "bare": lambda q: json.dumps({"name": "search", "parameters": {"query": q}}),
    "fenced": lambda q: f"```json\n{json.dumps({'function': 'search', 'args': {'query': q}}, indent=2)}\n```",
    "python": lambda q: f"<|python_tag|>search.call(query={json.dumps(q)})",
    "openai": lambda q: json.dumps([{"function": {"name": "search", "arguments": json.dumps({"query": q})}}]),
    "mistral": lambda q: f"[TOOL_CALLS]search{json.dumps({'query': q})}",
}


@pytest.mark.parametrize("form", WRITERS)
@settings(deadline=None, max_examples=30)
@given(query=(st.text() | OUTPUTS.map(lambda text: text.replace("\ud800", ""))).filter(str.strip))
def test_what_is_written_is_read(form, query):
    turn = read_calls(WRITERS[form](query), TOOLS)
    expected = query.replace("<", "(") if form == "qwen coder" else query
    assert (pairs(turn), turn.text, turn.faults) == ([("search", {"query": expected})], "", ())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4), st.data())
def test_good_json_is_read_as_json_and_its_beginnings_break_off(value, data):
    text = json.dumps(value, ensure_ascii=False)
    assert read_json(text) == Found(value, len(text), True)
    assert not read_json(text[: data.draw(st.integers(1, len(text) - 1))]).is_whole


def test_prose_is_released_at_once():
    stream, said, text = CallStream(TOOLS), "", TEXTS["prose"] + " 1 <2, <table>, {{x}}, [] and ``two``."
    for at, sign in enumerate(text, start=1):
        said += stream.push(sign)
        assert at - len(said) <= 2
    assert said == text
    assert stream.close() == CallReading("", (), ())


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_nothing_of_a_call_is_released(text):
    stream = CallStream(TOOLS)
    assert "".join([stream.push(sign) for sign in f"Well. {text}"]) == "Well. "
    assert pairs(stream.close()) == [EMMA]


def test_an_answer_in_json_or_code_is_released_before_the_end():
    for text in (TEXTS["an answer in JSON"], TEXTS["a fenced answer"], TEXTS["code"]):
        stream = CallStream(TOOLS)
        assert "".join([stream.push(sign) for sign in f"{text} So."]) == f"{text} So."


MILLION = 1_000_000
HUGE = {
    "brackets": "[" * MILLION,
    "nested objects": '{"a":' * (MILLION // 5),
    "long lists": ('{"a":[' + "1," * 10_000) * 50,
    "a long string": f'<tool_call>{{"name": "search", "arguments": {{"query": "{"x" * MILLION}"}}}}</tool_call>',
    "backslashes": '{"name": "' + "\\" * MILLION,
    "digits": '<tool_call>{"name": "search", "arguments": {"k": ' + "9" * MILLION,
    "open tags": "<tool_call>" * (MILLION // 11),
    "closing tags": "</tool_call>" * (MILLION // 12),
    "tags and words": "<tool_call> x" * (MILLION // 13),
    "functions": "<function=search>" * (MILLION // 17),
    "parameters": "<function=search>" + "<parameter=query>" * (MILLION // 17),
    "half tags": "<tool_cal" * (MILLION // 9),
    "backticks": "`" * MILLION,
    "a name": "<tool_call>" + "a." * (MILLION // 2) + "(",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
@pytest.mark.timeout(60)
def test_a_huge_turn_is_read_in_time_proportional_to_its_length(text):
    """In time that grew with the square, a million letters would take far longer than the limit."""
    assert streamed([text[at : at + 9999] for at in range(0, len(text), 9999)]) == read_calls(text, TOOLS)


def mutated(text: str, chance: random.Random) -> str:
    at, size = chance.randrange(len(text) + 1), chance.randrange(12)
    junk = "".join(chance.choices("{}[]<>\"'\\:,`= \n\x00\ud800x9é", k=chance.randrange(4)))
    return text[:at] + junk + text[at + size :]


def generated(chance: random.Random) -> str:
    text = "".join(chance.choices(FRAGMENTS, k=chance.randrange(1, 9)))
    for _ in range(chance.randrange(4)):
        text = mutated(text, chance)
    if chance.random() < 0.002:
        text = text.replace("x", "x" * 100_000).replace("[", "[" * 10_000)
    return text[: chance.randrange(len(text) + 1)] if chance.random() < 0.3 else text


def test_ten_thousand_outputs_are_read_without_an_exception_whole_and_in_pieces():
    for seed in range(10_000):
        chance = random.Random(seed)
        text = generated(chance)
        step = max(chance.randrange(1, 60), len(text) // 30)
        assert streamed([text[at : at + step] for at in range(0, len(text), step)]) == read_calls(text, TOOLS), seed
