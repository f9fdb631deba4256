from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_agent.models.decoding import Choose, Request, TextStream
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def run(text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    stream = TextStream(TOKENIZER, TOKENIZER.encode("Question: the town?"), stop)
    pieces = []
    for token in TOKENIZER.encode(text, add_special_tokens=False):
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return [*pieces, stream.close()], stream.stopped


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=30))
def test_pieces_add_up_to_the_text(text: str) -> None:
    pieces, _ = run(text)
    assert "".join(pieces) == text


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abX\n é", max_size=30), st.sampled_from(["\n", "ab", "aab", "XbX", "é "]))
def test_text_ends_before_the_first_stop_string(text: str, stop: str) -> None:
    pieces, stopped = run(text, (stop, "never written"))
    assert "".join(pieces) == text.split(stop)[0]
    assert stopped == (stop in text)


def test_a_character_is_never_shown_in_halves() -> None:
    pieces, _ = run("naïve 東京 🙂")
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_draw_does_not_depend_on_the_process_wide_random_numbers() -> None:
    scores = torch.randn(1, 50)
    request = Request(prompt=(1,), temperature=1.0, seed=7)
    torch.manual_seed(1)
    first = [int(draw(None, scores).argmax()) for draw in [Choose(request, "cpu")] for _ in range(8)]
    torch.manual_seed(2)
    again = [int(draw(None, scores).argmax()) for draw in [Choose(request, "cpu")] for _ in range(8)]
    assert first == again
    assert len(set(first)) > 1


def test_top_p_draws_only_from_the_likeliest_tokens() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    draw = Choose(Request(prompt=(1,), temperature=1.0, top_p=0.7), "cpu")
    assert {int(draw(None, scores).argmax()) for _ in range(100)} == {0, 1}
