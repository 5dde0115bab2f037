import pytest
import requests
from gradio_client import Client
from page_client import ask, send
from running_app import running_app

import app


def test_a_missing_checkpoint_ends_in_words(monkeypatch, tmp_path):
    monkeypatch.setenv("XR2TEXT_CHECKPOINT", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match=r"nowhere[\s\S]*XR2TEXT_CHECKPOINT"):
        app.load_reporter()


def test_a_login_needs_both_its_parts(monkeypatch):
    for name in ("XR2TEXT_USER", "XR2TEXT_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert app.login() is None
    monkeypatch.setenv("XR2TEXT_USER", "reader")
    with pytest.raises(SystemExit, match="XR2TEXT_PASSWORD"):
        app.login()
    monkeypatch.setenv("XR2TEXT_PASSWORD", "secret")
    assert app.login() == ("reader", "secret")


def test_a_login_and_mcp_tools_do_not_go_together(monkeypatch):
    """gradio answers them without asking who calls, and then cannot call its own page."""
    monkeypatch.setenv("XR2TEXT_USER", "reader")
    monkeypatch.setenv("XR2TEXT_PASSWORD", "secret")
    monkeypatch.setattr("sys.argv", ["app.py", "--mcp"])
    with pytest.raises(SystemExit, match="login"):
        app.main()


def test_on_zero_gpu_each_report_asks_for_the_gpu(monkeypatch, tmp_path, reporter):
    (tmp_path / "spaces.py").write_text("def GPU(function):\n    return lambda *a: ('gpu', function(*a))\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(app.Reporter, "from_pretrained", lambda _: reporter)
    monkeypatch.setattr(reporter, "report", lambda image: image)
    assert app.load_reporter().report("image") == ("gpu", "image")


@pytest.mark.slow
def test_a_login_is_asked_of_page_and_programs(tiny_checkpoint, png, tmp_path):
    with running_app(tiny_checkpoint, tmp_path, XR2TEXT_USER="reader", XR2TEXT_PASSWORD="secret") as url:
        stranger, reader = requests.Session(), requests.Session()
        assert "xr2text-tiny" not in stranger.get(url, timeout=30).text
        wrong = {"username": "reader", "password": "Secret"}
        assert stranger.post(f"{url}login", data=wrong, timeout=30).status_code == 400
        answers = [
            stranger.get(f"{url}config", timeout=30),
            stranger.get(f"{url}gradio_api/info", timeout=30),
            send(url, png, stranger),
            *(
                stranger.post(f"{url}gradio_api/call/{name}", json={"data": []}, timeout=30)
                for name in ("report", "report_batch", "info")
            ),
            stranger.post(f"{url}gradio_api/queue/join", json={"data": [], "fn_index": 0}, timeout=30),
            stranger.post(f"{url}gradio_api/run/info", json={"data": []}, timeout=30),
        ]
        assert [answer.status_code for answer in answers] == [401] * len(answers)
        right = {"username": "reader", "password": "secret"}
        assert reader.post(f"{url}login", data=right, timeout=30).status_code == 200
        assert "xr2text-tiny" in reader.get(f"{url}config", timeout=30).text
        answered, report = ask(url, send(url, png, reader).json()[0], reader)
        assert answered and report["findings"]
        assert Client(url, auth=("reader", "secret"), verbose=False).predict(api_name="/info")["max_batch"]
