"""Settings are closed, typed and say what is wrong; flags beat `--set`, which beats the file, which beats defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BeforeValidator, Field

from steper_agent.config import Config, command_line, parted
from steper_agent.errors import ConfigError


class Bake(Config):
    flour: Path = Field(description="what to bake 100 % from")
    heat: float = Field(180.0, gt=0, description="degrees")
    learning_rate: float = 1e-3
    tins: tuple[str, ...] = ()
    toppings: Annotated[tuple[str, ...], BeforeValidator(parted)] = ()
    steam: bool = False
    json_: Path | None = Field(None, description="where to write")


def baked(*argv: str) -> Bake:
    return command_line(Bake, "bake", "Bake bread.", argv)


def test_every_field_is_a_flag():
    found = baked("--flour", "rye", "--heat", "200", "--tins", "a", "b", "--steam", "--json", "out.json")
    assert found == Bake(flour=Path("rye"), heat=200, tins=("a", "b"), steam=True, json_=Path("out.json"))
    assert baked("--flour", "rye", "--steam", "false").steam is False


@pytest.mark.parametrize(
    ("argv", "heat"),
    [
        ((), 100),
        (("--set", "heat=150"), 150),
        (("--heat", "200"), 200),
        (("--heat", "200", "--set", "heat=150"), 200),
    ],
)
def test_flags_beat_set_beats_file_beats_default(tmp_path, argv, heat):
    file = tmp_path / "bread.toml"
    file.write_text('[bake]\nflour = "rye"\nheat = 100\ntins = ["a"]\njson = "x"\n[other]\nanything = 1\n')
    found = baked("--config", str(file), *argv)
    assert (found.heat, found.tins, found.json_, found.learning_rate) == (heat, ("a",), Path("x"), 1e-3)


def test_set_takes_lists_with_commas():
    assert baked("--set", "flour=rye", "--set", "tins=a,b").tins == ("a", "b")


@pytest.mark.parametrize("given", ["salt, seeds", ["salt,seeds"], ["salt", "seeds"], " salt,,seeds,"])
def test_words_may_be_parted_by_commas_wherever_they_come_from(given):
    assert Bake.of({"flour": "rye", "toppings": given}, "here").toppings == ("salt", "seeds")


def test_what_is_no_text_is_left_to_its_type():
    with pytest.raises(ConfigError, match="toppings(.|\n)*here"):
        Bake.of({"flour": "rye", "toppings": 5}, "here")


def test_a_flag_of_a_list_adds_up():
    assert baked("--flour", "rye", "--tins", "a", "b", "--tins", "c").tins == ("a", "b", "c")


@pytest.mark.parametrize("argv", [("--set", "learning_rat=1"), ("--learning-rat", "1"), ("--learning-rat=1",)])
def test_an_unknown_key_names_the_nearest(argv):
    with pytest.raises(ConfigError, match="did you mean `learning_rate`"):
        baked("--flour", "rye", *argv)


def test_an_unknown_key_of_a_file_names_the_file_and_the_nearest(tmp_path):
    file = tmp_path / "bread.toml"
    file.write_text("[bake]\nflouer = 1\n")
    with pytest.raises(ConfigError, match="did you mean `flour`") as caught:
        baked("--config", str(file))
    assert str(file) in str(caught.value.where)


def test_a_key_like_no_other_lists_them_all():
    with pytest.raises(ConfigError, match="one of: flour, heat"):
        Bake.load("bake", overrides={"zzz": 1})


@pytest.mark.parametrize(
    ("overrides", "key"),
    [({}, "flour"), ({"flour": "rye", "heat": "hot"}, "heat"), ({"flour": "rye", "heat": -1}, "heat"),
     ({"flour": "rye", "json": 3}, "json")],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_named(overrides, key):
    with pytest.raises(ConfigError, match=f"`{key}`"):
        Bake.load("bake", overrides=overrides)


def test_a_wrong_value_is_blamed_on_the_place_that_gave_it(tmp_path):
    file = tmp_path / "bread.toml"
    file.write_text('[bake]\nflour = "rye"\nheat = "hot"\n')
    with pytest.raises(ConfigError) as caught:
        Bake.load("bake", file=file)
    assert str(file) in str(caught.value.where)
    file.write_text('[bake]\nflour = "rye"\n')
    with pytest.raises(ConfigError) as caught:
        Bake.load("bake", file=file, overrides={"heat": "hot"})
    assert "command line" in str(caught.value.where)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[bake\n", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        (b"heat = 1\n[bake]\n", "stands in no table"),
        (b"[bakery]\nheat = 1\n", r"did you mean \[bake\]"),
        (b"", r"no table \[bake\]"),
    ],
)
def test_a_broken_settings_file_is_one_clear_error(tmp_path, content, complaint):
    file = tmp_path / "bread.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        Bake.load("bake", file=file, overrides={"flour": "rye"})


def test_a_missing_settings_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        baked("--config", str(tmp_path / "none.toml"))


def test_set_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="not KEY=VALUE"):
        baked("--flour", "rye", "--set", "heat")


def test_help_teaches_every_setting(capsys):
    with pytest.raises(SystemExit) as caught:
        baked("--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(word in shown for word in ("Bake bread.", "--learning-rate", "--json", "100 %", "required", "180.0"))


def test_a_word_no_setting_takes_ends_with_two(capsys):
    with pytest.raises(SystemExit) as caught:
        baked("--flour", "rye", "stray")
    assert caught.value.code == 2
    assert "stray" in capsys.readouterr().err


def test_settings_never_change():
    with pytest.raises(ValueError, match="frozen"):
        baked("--flour", "rye").heat = 3
