"""What domains of files share: the order of classes."""

from __future__ import annotations

from tlrun.data.files.file_domains import by_name


def test_classes_are_in_order_of_their_numbers_or_names() -> None:
    assert by_name(["10", "9", "9", "2"]) == ("2", "9", "10")
    assert by_name(["b", "10", "9"]) == ("10", "9", "b")


def test_names_of_one_number_have_an_order_too() -> None:
    # So many that the order in which a set happens to hold them would not be right by chance.
    numbers = range(1, 31)
    assert by_name(f"{name}" for number in numbers for name in (number, f"0{number}")) == tuple(
        name for number in numbers for name in (f"0{number}", f"{number}")
    )
