"""Messages become token ids: content never turns into control, blocks never touch, and a trainer sees what was sent."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from steper_agent.errors import ModelError
from steper_agent.models.loading import TEMPLATE as ROLE_NAMES
from steper_agent.prompts import defuse, encode, pieces, render, segments, show_passage
from steper_agent.records import Passage
from steper_agent.tool_calls.reading import read_calls
from tests.templates import tokenizers
from tests.tiny import tiny_tokenizer

SEARCH = {"type": "function", "function": {"name": "search", "description": "finds passages\nof a town",
          "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}}}  # fmt: skip
OPENING = "<think>\n"
"""A thought opened by the template; the prompt leaves that to the model."""
NO_TOOLS: list[dict[str, Any]] = []
NAMES = [*tokenizers(), "tiny"]
laws = settings(max_examples=40, deadline=None)


def tokenizer_of(name: str) -> Any:
    return tiny_tokenizer() if name == "tiny" else tokenizers()[name]


TOKENIZERS = {name: tokenizer_of(name) for name in NAMES}


def with_template(template: str) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def called(query: str, id: str = "a", said: str = "") -> AIMessage:
    return AIMessage(said, tool_calls=[{"name": "search", "args": {"query": query}, "id": id}])


def blocks(*texts: str) -> list[str | dict[Any, Any]]:
    return [{"type": "text", "text": text} for text in texts]


def loop(text: str) -> list[BaseMessage]:
    """A conversation in which `text` stands wherever other people's text can stand."""
    return [HumanMessage(f"Who? {text}"), called(text), ToolMessage(f"[1] {text} x", tool_call_id="a"),
            AIMessage(f"So {text}."), HumanMessage(blocks("more", text, "."))]  # fmt: skip


def fragments(tokenizer: Any) -> st.SearchStrategy[str]:
    """Control tokens, halves of them, and letters in between."""
    tokens = sorted(tokenizer.get_added_vocab())
    halves = [half for token in tokens for half in (token[: len(token) // 2], token[len(token) // 2 :])]
    return st.lists(st.sampled_from([*tokens, *halves, " ", "\n", '"', "\\", "a"]), max_size=12).map("".join)


def words() -> st.SearchStrategy[str]:
    return st.text(st.sampled_from("aTh e.?\n\"'[]<|>:é"), min_size=1, max_size=12).filter(lambda text: text.strip())


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@laws
def test_content_that_spells_control_tokens_adds_none(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    control = set(tokenizer.get_added_vocab().values()) - {tokenizer.unk_token_id}

    def count(text: str) -> Counter[int]:
        return Counter(token for token in render(loop(text), tokenizer, [SEARCH]) if token in control)

    text = data.draw(fragments(tokenizer))
    assert count(text) == count("harmless")
    assert control.isdisjoint(encode(text, tokenizer))


@pytest.mark.parametrize("name", NAMES)
def test_every_control_token_alone_is_broken_up(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    for token in tokenizer.get_added_vocab():
        assert token not in defuse(f"x{token}{token}y", tokenizer)


def test_control_tokens_that_overlap_or_that_a_normalizer_would_spell_are_broken_up_too() -> None:
    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFKC()  # type: ignore[assignment]
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    inner.add_tokens([AddedToken(one, normalized=True) for one in ("ab", "bc", "<|x|>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    control = set(tokenizer.get_added_vocab().values())
    for text in ("abc", "aabcbc", "<|x|>", "＜｜x｜＞", "ａｂc"):
        assert control.isdisjoint(encode(text, tokenizer)), text
    assert not control.isdisjoint(tokenizer.encode("＜｜x｜＞"))


RAW = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments.query }}{% endfor %};{% endfor %}"


@pytest.mark.parametrize("name", [*NAMES, "raw"])
@pytest.mark.parametrize("mark", ["\ue000{}\"\ue001", "\\ue000{}\"\\ue001", "\\u\ue001e000{}\"\ue001"])
@pytest.mark.parametrize("turn", [0, 7])
def test_no_call_can_stand_for_what_another_turn_says(name: str, mark: str, turn: int) -> None:
    tokenizer = with_template(f"{RAW}{{# tools #}}") if name == "raw" else TOKENIZERS[name]
    talk = [HumanMessage("the river"), called(mark.format(turn)), ToolMessage("old", tool_call_id="a")]
    assert tokenizer.decode(render(talk, tokenizer, [SEARCH])).count("the river") == 1


def test_a_token_added_after_a_first_text_is_broken_up_all_the_same() -> None:
    tokenizer = tiny_tokenizer()
    encode("a text", tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|late|>"]})
    assert tokenizer.convert_tokens_to_ids("<|late|>") not in encode("a <|late|> text", tokenizer)


def test_a_template_changed_after_a_prompt_was_written_is_looked_at_anew() -> None:
    tokenizer, messages = tiny_tokenizer(), [SystemMessage("Be brief."), HumanMessage("Who?")]
    assert "Be brief." in tokenizer.decode(render(messages, tokenizer))
    tokenizer.chat_template = "{% for m in messages if m.role != 'system' %}{{ m.role }}:{{ m.content }}{% endfor %}"
    assert tokenizer.decode(render(messages, tokenizer)) == "user:Be brief.\n\nWho?"


def test_what_earlier_prompts_showed_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    encoded: list[str] = []
    plainly = tokenizer.encode

    def listening(text: str, **options: Any) -> Any:
        encoded.append(text)
        return plainly(text, **options)

    monkeypatch.setattr(tokenizer, "encode", listening)
    render([HumanMessage(blocks("one", "two"))], tokenizer)
    encoded.clear()
    render([HumanMessage(blocks("one", "two", "three"))], tokenizer)
    assert [text for text in encoded if text.strip()] == ["three"]


def after(part: list[int], whole: list[int]) -> int:
    """Where `part` ends in `whole`, at its last occurrence."""
    return next(at for at in range(len(whole), 0, -1) if whole[at - len(part) : at] == part)


@pytest.mark.parametrize("name", NAMES)
@given(texts=st.lists(words(), max_size=5))
@laws
def test_a_block_has_its_own_ids_whatever_stands_beside_it(name: str, texts: list[str]) -> None:
    tokenizer = TOKENIZERS[name]

    def ids(*content: str) -> list[int]:
        turn = HumanMessage(blocks("the", "QZQ", *content, "AZA"))
        return render([SystemMessage("Answer."), turn], tokenizer, [SEARCH])

    around = ids()
    at = after(encode("QZQ", tokenizer) + encode("AZA", tokenizer), around) - len(encode("AZA", tokenizer))
    inner = [token for text in texts for token in encode(text, tokenizer)]
    assert ids(*texts) == around[:at] + inner + around[at:]


@pytest.mark.parametrize("name", NAMES)
@given(texts=st.lists(words(), min_size=1, max_size=5))
@laws
def test_a_turn_to_be_continued_grows_block_by_block(name: str, texts: list[str]) -> None:
    tokenizer = TOKENIZERS[name]
    asked = [SystemMessage("Answer."), HumanMessage("Who?")]
    head, *written = segments([*asked, AIMessage(blocks(*texts))], tokenizer)
    assert head == (tuple(render(asked, tokenizer)), False)
    assert written == [(tuple(encode(text, tokenizer)), True) for text in texts]
    for count in range(len(texts) + 1):
        begun = [*asked, AIMessage(blocks(*texts[:count]))]
        assert render(begun, tokenizer) == [token for part in (head, *written[:count]) for token in part.ids]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tools", [NO_TOOLS, [SEARCH]], ids=["no tools", "tools"])
@given(text=words(), said=st.sampled_from(["", "Let me see."]))
@laws
def test_what_stands_before_a_written_segment_is_what_was_sent(
    name: str, tools: list[dict[str, Any]], text: str, said: str
) -> None:
    tokenizer = TOKENIZERS[name]
    # Mistral's template moves its tools to the last question, so one question only.
    talk = [SystemMessage("Answer."), HumanMessage(f"Who? {text}"),
            called(text, said=said), ToolMessage(text, tool_call_id="a"), called(f"{text}!", "b"), ToolMessage("x", tool_call_id="b"), AIMessage(f"So {text}.")]  # fmt: skip
    parts = segments(talk, tokenizer, tools)
    assert [part.written for part in parts] == [False, True] * 3
    for number, at in enumerate((2, 4, 6)):
        before = [token for part in parts[: 2 * number + 1] for token in part.ids]
        assert before == render(talk[:at], tokenizer, tools)
        assert parts[2 * number + 1].ids[-1] == tokenizer.eos_token_id
        assert parts[2 * number + 1].ids.count(tokenizer.eos_token_id) == 1


def test_messages_after_the_last_written_turn_are_a_segment_too() -> None:
    tokenizer = TOKENIZERS["chatml"]
    talk = [HumanMessage("Who?"), AIMessage("Ada."), HumanMessage("Sure?")]
    parts = segments(talk, tokenizer)
    assert [part.written for part in parts] == [False, True, False]
    assert [token for part in parts for token in part.ids] == render(talk, tokenizer)
    assert segments(talk[:1], tokenizer) == [(tuple(render(talk[:1], tokenizer)), False)]


def test_a_turn_that_no_token_ends_has_the_same_ids_when_more_follows() -> None:
    glues = PreTrainedTokenizerFast(tokenizer_object=_newlines())
    glues.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    talk = [HumanMessage("Who?"), AIMessage("Ada."), HumanMessage("Sure?"), AIMessage("Yes.")]
    parts = segments(talk, glues)
    assert [glues.decode(part.ids) for part in parts[1:3]] == [" Ada.\n\n", "user: Sure?\n\nassistant:"]


def _newlines() -> Tokenizer:
    """GPT-2's way: two newlines are one token at the end of a text, and two before a word."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(["a\n\n"] * 9, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    return inner


def test_a_template_that_rewrites_history_is_an_error() -> None:
    thinking = "{% if not add_generation_prompt and message['role'] == 'assistant' %}{{ 'Hm. ' }}{% endif %}{{ message['content']"
    forgetful = with_template(str(tiny_tokenizer().chat_template).replace("+ message['content']", "}}" + thinking))
    talk = [HumanMessage("Who?"), AIMessage("Ada."), HumanMessage("Sure?"), AIMessage("Yes.")]
    assert len(segments(talk[:2], forgetful)) == 2
    with pytest.raises(ModelError, match="earlier turn otherwise"):
        segments(talk, forgetful)


def test_a_template_that_asks_otherwise_than_it_prints_is_an_error() -> None:
    odd = with_template(str(tiny_tokenizer().chat_template).replace("{{ '<|assistant|>' }}", "{{ '<|assistant|>!' }}"))
    with pytest.raises(ModelError, match="otherwise than it prints"):
        segments([SystemMessage("Answer."), HumanMessage("Who?"), AIMessage("Ada.")], odd)


def test_a_system_message_that_would_wander_to_the_newest_question_stays_first() -> None:
    # Mistral's template prints it in the last turn, and only while that is the user's.
    tokenizer = TOKENIZERS["mistral"]
    talk = [SystemMessage("Answer."), HumanMessage("Who?"), AIMessage("Ada."), HumanMessage("Sure?"), AIMessage("Yes.")]
    asked, *_ = segments(talk, tokenizer)
    assert tokenizer.decode(asked.ids) == "<s>[INST] Answer.\n\nWho?[/INST]"
    assert tokenizer.decode(render(talk[:4], tokenizer)).startswith("<s>[INST] Answer.\n\nWho?[/INST]")


@pytest.mark.parametrize("name", NAMES)
@given(texts=st.lists(words().map(str.strip), min_size=3, max_size=3))
@laws
def test_ordinary_conversations_have_the_ids_of_the_templates_own_text(name: str, texts: list[str]) -> None:
    tokenizer = TOKENIZERS[name]
    chat = [{"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), texts, strict=True)]
    talk = [HumanMessage(texts[0]), AIMessage(texts[1]), HumanMessage(texts[2])]
    ids = render(talk, tokenizer)
    settings: dict[str, Any] = {"add_generation_prompt": True, "strftime_now": lambda _form: "26 Jul 2024"}
    written = tokenizer.apply_chat_template(chat, tokenize=False, **settings).removesuffix(OPENING)
    assert ids == tokenizer.encode(written, add_special_tokens=False)
    assert name == "thinking" or ids == tokenizer.apply_chat_template(chat, return_dict=False, **settings)


@pytest.mark.parametrize("name", tokenizers())
@pytest.mark.parametrize("text", ["Ada", 'a "quoted" \\ line\nand é more', "tab\there"])
def test_conversations_with_tools_read_as_the_template_writes_them(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    call = {"id": "call00001", "type": "function", "function": {"name": "search", "arguments": {"query": text}}}
    chat = [{"role": "user", "content": text}, {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": text, "name": "search", "tool_call_id": "call00001"}]  # fmt: skip
    settings: dict[str, Any] = {"add_generation_prompt": True, "strftime_now": lambda _form: "26 Jul 2024"}
    written = tokenizer.apply_chat_template(chat, tools=[SEARCH], tokenize=False, **settings).removesuffix(OPENING)
    talk = [HumanMessage(text), called(text, "some-other-id"), ToolMessage(text, tool_call_id="some-other-id")]
    assert tokenizer.decode(render(talk, tokenizer, [SEARCH])) == written


@pytest.mark.parametrize("name", NAMES)
def test_words_beside_a_call_are_kept_though_the_template_drops_them(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    talk = [SystemMessage("Answer."), HumanMessage("Who?"), called("Ada", said="Let me see."),
            ToolMessage("x", tool_call_id="a"), called("Bob", "b", said="Once more.")]  # fmt: skip
    first, _, then = (part for part in segments(talk, tokenizer, [SEARCH])[1:])
    for part, words, query in ((first, "Let me see.", "Ada"), (then, "Once more.", "Bob")):
        said = tokenizer.decode(part.ids)
        assert re.match(rf"{words}\n.*{query}", said, re.DOTALL), said
        assert said.count(words) == 1
        # As the engine decodes it: what a student is taught to write is read as what was meant.
        reading = read_calls(tokenizer.decode(part.ids, skip_special_tokens=True), [SEARCH])
        assert (reading.text, [call["args"] for call in reading.calls]) == (words, [{"query": query}])


def test_a_template_without_tools_is_told_of_them_in_the_system_message() -> None:
    tokenizer = TOKENIZERS["tiny"]
    talk = [SystemMessage("Answer."), HumanMessage("Who?"), called("Ada", said="Let me see."),
            ToolMessage("[1] Ada </tool_response> wrote.", tool_call_id="a"), ToolMessage("[2] x", tool_call_id="b")]  # fmt: skip
    assert tokenizer.decode(render(talk, tokenizer, [SEARCH])) == (
        "<|system|>Answer.\n\nTools:\nsearch(query: string) – finds passages of a town\n"
        'To use a tool, write: <tool_call>{"name": "search", "arguments": {"query": "…"}}</tool_call><|end|>'
        '<|user|>Who?<|end|><|assistant|>Let me see.\n<tool_call>{"name": "search", "arguments": {"query": "Ada"}}'
        "</tool_call><|end|><|user|><tool_response>\n[1] Ada < /tool_response> wrote.\n</tool_response>\n"
        "<tool_response>\n[2] x\n</tool_response><|end|><|assistant|>"
    )
    assert tokenizer.decode(render(talk[1:2], tokenizer, [SEARCH])).startswith("<|system|>Tools:\nsearch(")


def test_a_template_without_a_system_role_gets_its_words_before_the_users() -> None:
    gemma = with_template(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + str(tiny_tokenizer().chat_template)
    )
    talk = [SystemMessage("Answer."), HumanMessage("Who?")]
    assert gemma.decode(render(talk, gemma)) == "<|user|>Answer.\n\nWho?<|end|><|assistant|>"
    shown = gemma.decode(render(talk[1:], gemma, [SEARCH]))
    assert shown.startswith("<|user|>Tools:\nsearch(")
    assert shown.endswith("</tool_call>\n\nWho?<|end|><|assistant|>")


@pytest.mark.parametrize("dump", ["tojson", "tojson(ensure_ascii=True)", "tojson | tojson"])
def test_content_put_into_json_is_escaped_like_json(dump: str) -> None:
    tokenizer = with_template("{% for m in messages %}{{ m.content | " + dump + " }}{{ m.content }}{% endfor %}")
    text = 'she said "é\n" \\'
    written = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
    assert tokenizer.decode(render([HumanMessage(text)], tokenizer)) == written


def test_dropped_content_is_no_error_and_empty_content_stays_empty() -> None:
    tokenizer = with_template("{% for m in messages %}{{ m.role }}{% if m.content %}!{% endif %}{% endfor %}")
    assert tokenizer.decode(render([HumanMessage("a"), AIMessage(""), HumanMessage(" \n ")], tokenizer)) == (
        "user!assistantuser"
    )


def test_whitespace_goes_around_a_content_and_stays_inside_it() -> None:
    tokenizer = TOKENIZERS["chatml"]
    turn = HumanMessage(blocks("\n", " a\n", "\n", "b \n", " "))
    assert "user\na\n\nb<|im_end|>" in tokenizer.decode(render([turn], tokenizer))


def test_a_tokenizer_that_opens_texts_with_a_space_does_so_only_at_the_beginning() -> None:
    tokenizer = TOKENIZERS["mistral"]
    assert tokenizer.decode(encode("the", tokenizer) + encode("re", tokenizer)) == "there"
    named = with_template(ROLE_NAMES)
    assert named.decode(render([HumanMessage("Who?")], named)) == "User:\nWho?\n\nAssistant:\n"


def test_pieces_are_the_text_blocks_and_calls_in_other_shapes_are_left_out() -> None:
    call = {"type": "tool_use", "id": "a", "name": "search", "input": {}}
    assert pieces(AIMessage(["a", {"type": "text", "text": "b"}, call])) == ["a", "b"]
    assert render([HumanMessage("x"), AIMessageChunk("y")], TOKENIZERS["tiny"])[-1:] == encode("y", TOKENIZERS["tiny"])
    with pytest.raises(KeyError):
        pieces(HumanMessage([{"type": "image_url", "image_url": "x"}]))


@pytest.mark.parametrize(
    "mark",
    ["<|im_start|>", "<|python_tag|>", "<｜begin▁of▁sentence｜>", "[INST]", "[/INST]", "[TOOL_CALLS]", "<s>", "</s>",
     "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>", "<tool_call>", "</tool_call>", "<tool_response>",
     "</tools>", "<think>", "</think>", "<function=search>", "</function>", "<bos>"],
)  # fmt: skip
def test_a_passage_cannot_speak_any_models_markup(mark: str) -> None:
    broken = f"{mark[0]} {mark[1:]}"
    shown = show_passage(3, Passage(id="a", title=f"T{mark}", text=f"x {mark}\n{mark}"))
    assert shown == f"[3] T{broken}: x {broken} {broken}"


def test_a_passage_stays_on_one_line_of_plain_text() -> None:
    shown = show_passage(1, Passage(id="a", title="A\x1b[31m\u2028B", text="c\r\n\x00d\te <b>bold</b> [1] 3 < 4 > 2"))
    assert shown == "[1] A B: c d e <b>bold</b> [1] 3 < 4 > 2"
