from __future__ import annotations

import pytest

from tlrun.compose.requirement import Requirement, parse_requirement
from tlrun.config import ConfigError


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("target_test_accuracy>=0.7", 0.7, True),
        (" target_test_accuracy > 0.7 ", 0.7, False),
        ("regret<=1e-2", 0.01, True),
        ("regret<0", 0, False),
        ("selected_epoch==3", 3, True),
        ("selected_epoch==3", 4, False),
    ],
)
def test_requirement_compares_as_it_reads(text: str, value: float, met: bool) -> None:
    requirement = parse_requirement(text)
    assert (requirement.check({requirement.name: value}) is None) == met


def test_requirement_that_is_not_met_says_what_was_found() -> None:
    requirement = parse_requirement("target_test_accuracy>=0.7")
    assert requirement == Requirement("target_test_accuracy", ">=", 0.7)
    text = "target_test_accuracy is 0.65, required was >= 0.7"
    assert requirement.check({"target_test_accuracy": 0.65}) == text
    text = "target_test_accuracy is unknown, required was >= 0.7"
    assert requirement.check({"target_test_accuracy": None}) == requirement.check({}) == text


@pytest.mark.parametrize("text", ["", "target_test_accuracy", "seed=1", "seed>=x", "seed>=nan", "seed>=1 2", "a.b>=1"])
def test_requirement_that_cannot_be_read_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_requirement(text)
    assert error.value.problems == [
        f'run.require: "{text}" cannot be read; write a field of summary.json, one of >= > <= < == and a number, '
        'such as "target_test_accuracy>=0.7"'
    ]


def test_requirement_on_an_unknown_field_suggests_one() -> None:
    with pytest.raises(ConfigError) as error:
        parse_requirement("target_test_acuracy>=0.7")
    assert error.value.problems == [
        'run.require: summary.json has no numeric field "target_test_acuracy"; did you mean target_test_accuracy?'
    ]
    for name in ("zzz", "status", "format", "warnings"):
        with pytest.raises(ConfigError, match=f'no numeric field "{name}"; '):
            parse_requirement(f"{name}>=1")
    with pytest.raises(ConfigError, match="allowed are seed, target_test_accuracy, .*, twin_cosine$"):
        parse_requirement("zzz>=1")
