import pytest

from pipeline.printing import figures_text, new_table, print_columns, print_table


def test_figures_are_short() -> None:
    text = figures_text({"loss": 0.123456, "images": 1440, "mean_iou": 1.0, "sha256": "ab" * 32, "kind": "cars"})
    assert text == "loss 0.1235, images 1440, mean_iou 1, sha256 abababababab..., kind cars"
    assert figures_text({}) == ""


def test_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    print_columns([["name", "value"], ["a", "1"], ["longer name", "2"]])
    assert capsys.readouterr().out == "    name         value\n    a            1\n    longer name  2\n"


def test_a_table_in_a_pipe_does_not_break_names(capsys: pytest.CaptureFixture[str]) -> None:
    table = new_table(("stage", "why"), right=("why",))
    table.add_row("train-interpreter", "x" * 100)
    print_table(table)
    assert "x" * 100 in capsys.readouterr().out
