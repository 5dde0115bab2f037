import pytest

from xr2text.cli.main import COMMANDS, main


def test_each_command_explains_itself(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0 and len(capsys.readouterr().out) > 100


def test_an_error_that_a_person_can_mend_is_a_sentence(capsys):
    assert main(["info", "configs/none.yaml"]) == 2
    assert capsys.readouterr().err == "info: no config file at configs/none.yaml\n"


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("xr2text.cli.findings.run", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["findings", "reports.csv", "--column", "text", "--out", "labels.csv"])


@pytest.mark.parametrize(
    ("line", "option", "values"),
    [
        ("report a.png --out x --also pdf --also fhir", "also", ["pdf", "fhir"]),
        ("findings a.csv --out x --column text --keep id --keep date", "keep", ["id", "date"]),
        ("data check manifest --set a=1 b=2 --set c=3", "set", ["a=1", "b=2", "c=3"]),
    ],
)
def test_an_option_that_is_given_twice_holds_twice(monkeypatch, line, option, values):
    seen = []
    monkeypatch.setattr(COMMANDS[line.split()[0]], "run", lambda args: seen.append(getattr(args, option)) or 0)
    assert main(line.split()) == 0 and seen == [values]
