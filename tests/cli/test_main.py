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
