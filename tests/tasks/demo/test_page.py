"""The page in a real browser: what it answers, that it asks no other machine, and that no file harms it."""

import io
import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from tasks.demo.__main__ import main
from tasks.demo.arguments import check_host, parser
from tasks.errors import UsageError

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
GRADIO_SAYS = "Method not implemented."
"""What gradio's own scripts say on the console."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, trained, detr_trained, asr_trained, forecast_trained) -> Path:
    """A small run of each task, and an older one of forecasting that is spoilt."""
    folder = tmp_path_factory.mktemp("runs")
    for task, run in {"vit": trained, "detr": detr_trained, "asr": asr_trained, "forecast": forecast_trained}.items():
        (folder / task).mkdir()
        (folder / task / "RUN").symlink_to(run)
    spoilt = folder / "forecast" / "spoilt" / "checkpoints" / "best.ckpt"
    spoilt.parent.mkdir(parents=True)
    spoilt.write_bytes(b"no checkpoint")
    os.utime(spoilt, (0, 0))
    return folder


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    with served(runs) as address:
        yield address


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """Serves the page by a thread; its address."""
    pytest.importorskip("gradio", reason="gradio is not installed (extra demo)")
    from tasks.demo.server import ready

    with ready(parser().parse_args([f"--runs={runs}", "--port=0", "--max-mb=1"])) as (server, listening):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Visit:
    """A page of the browser, and all that went wrong or out of it."""

    def __init__(self, context: Any, address: str) -> None:
        self.page, self.problems, self.requests = context.new_page(), [], []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.get_by_role("tab", name="Classes").wait_for()

    def drop(self, task: str, tab: str, name: str, content: bytes, shows: str = ".said, .wrong") -> Any:
        """Gives a task's tab a file; the answer's element."""
        self.page.get_by_role("tab", name=tab).click()
        if self.page.locator(f"#{task}-file button[aria-label=Clear]").count():
            self.page.locator(f"#{task}-file button[aria-label=Clear]").click()
            self.page.locator(f"#{task}-answer .hint").wait_for()
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self.page.locator(f"#{task}-file input[type=file]").set_input_files(file)
        answer = self.page.locator(f"#{task}-answer")
        answer.locator(shows).first.wait_for(timeout=60_000)
        return answer


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Visit]]:
    """Opens the page; at the end nothing may have gone wrong, and nobody but the page's own server been asked."""
    visits: list[tuple[Any, Visit]] = []

    def go(**options: Any) -> Visit:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        visits.append((context, Visit(context, address)))
        return visits[-1][1]

    yield go
    for context, visited in visits:
        context.close()
        assert {problem for problem in visited.problems if problem != GRADIO_SAYS} == set()
        assert [url for url in visited.requests if not url.startswith((f"{address}/", "data:", "blob:"))] == []


def picture(size: tuple[int, int] = (28, 28), kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, size, np.uint8)).save(content, kind)
    return content.getvalue()


def sound() -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000, format="WAV")
    return content.getvalue()


def table() -> bytes:
    times = np.arange("2024-03-01", "2024-04-01", np.timedelta64(30, "m"), dtype="datetime64[m]").astype(str)
    rows = [f"{time},{30_000 + 1000 * np.sin(number / 7.6):.0f}" for number, time in enumerate(times)]
    return "\n".join(["time,demand", *rows]).encode()


def test_a_file_of_each_kind_is_answered(visit: Callable[..., Visit]):
    visited = visit()
    answer = visited.drop("vit", "Classes", "digit.png", picture())
    assert answer.locator(".bars .bar").count() == 5
    assert answer.locator("img").evaluate("image => image.complete && image.naturalWidth") == 280
    answer = visited.drop("forecast", "Forecast", "demand.csv", table())
    assert "48 values, 2024-04-01 00:00 to 2024-04-01 23:30" in answer.inner_text()
    assert answer.locator("tbody tr").count() == 48
    assert answer.locator("img").evaluate("image => image.naturalWidth") == 1200
    looked = visited.page.locator("#forecast-attention img")
    looked.wait_for(timeout=60_000)
    assert looked.evaluate("image => image.naturalWidth") == 1200
    assert "demand.csv" in visited.page.locator(".files:visible").inner_text().replace("\n", "")


def test_a_phone_shows_all_tabs_and_wide_things_scroll_in_their_own_box(visit: Callable[..., Visit]):
    visited = visit(**PHONE)
    tabs = visited.page.get_by_role("tab")
    assert [tab.inner_text() for tab in tabs.all() if tab.is_visible()] == ["Classes", "Boxes", "Speech", "Forecast"]
    answer = visited.drop("forecast", "Forecast", "demand.csv", table())
    for box in answer.locator(".scroll").all():
        assert box.evaluate("box => box.scrollWidth - box.clientWidth") > 100
    assert visited.page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.slow
def test_what_it_says_is_what_predict_writes(visit: Callable[..., Visit], runs: Path, tmp_path: Path):
    from tasks.launch import launch

    visited = visit()
    for task, tab, name, content in [
        ("detr", "Boxes", "scene.png", picture((64, 64))),
        ("asr", "Speech", "said.wav", sound()),
    ]:
        (tmp_path / name).write_bytes(content)
        checkpoint = runs / task / "RUN" / "checkpoints" / "best.ckpt"
        args = ["predict", f"--ckpt_path={checkpoint}", f"--input={tmp_path / name}", f"--output={tmp_path / task}"]
        assert launch(task, [*args, "--trainer.enable_progress_bar=false"]) == 0
        visited.page.get_by_role("tab", name=tab).click()
        visited.page.locator(f"#{task}-looked input").uncheck()
        answer = visited.drop(task, tab, name, content)
        shown = [row.split("\t") for row in answer.locator("tbody tr").all_inner_texts()]
        if task == "detr":
            written = json.loads((tmp_path / task / "predictions.json").read_text())
            assert [row[0] for row in shown] == [each["category_name"] for each in written]
            assert [row[1] for row in shown] == [f"{each['score']:.2f}" for each in written]
            assert answer.locator("img").evaluate("image => image.naturalWidth") == 64
        else:
            written = json.loads((tmp_path / task / "said.json").read_text())
            assert answer.locator(".said").inner_text() == (written["text"] or "nothing was heard")
            assert [row[:2] for row in shown] == [[each["word"], f"{each['start']:.2f}"] for each in written["words"]]
            assert answer.locator(".timeline span").count() == len(written["words"])
        assert visited.page.locator(f"#{task}-attention:visible").count() == 0


def test_a_hostile_file_gets_one_line_and_the_next_is_answered(visit: Callable[..., Visit]):
    visited = visit()
    cut = picture((200, 200))[:-3000]
    for name, content, message in [
        ("noise.png", b"\x00\x01noise" * 100, "noise.png: is not a readable picture"),
        ("empty.png", b"", "empty.png: is empty"),
        ("cut.png", cut, "cut.png: is damaged"),
        ("table.csv", table(), "table.csv: is not a readable picture"),
        ("../../../etc/passwd", b"root:x:0:0", "passwd: is not a readable picture"),
        ("<img src=x onerror=alert(1)>.png", b"x", "is not a readable picture"),
    ]:
        answer = visited.drop("vit", "Classes", name, content, ".wrong")
        said = answer.locator(".wrong").inner_text()
        assert message in said
        assert "\n" not in said
        assert not re.search(r"/tmp|uploads|work/", said), "the server's folders are nobody's business"
        assert visited.page.locator("#vit-answer img").count() == 0
    for task, tab, name, message in [
        ("asr", "Speech", "sound.wav", "sound.wav: "),
        ("forecast", "Forecast", "table.csv", "table.csv: "),
    ]:
        answer = visited.drop(task, tab, name, b"\xff\x00no" * 50, ".wrong")
        assert answer.locator(".wrong").inner_text().startswith(message)
    assert visited.drop("vit", "Classes", "digit.png", picture()).locator(".said").count() == 1


def test_a_file_that_is_too_large_is_refused_on_the_page(visit: Callable[..., Visit]):
    visited = visit()
    file = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(2_000_000)}
    visited.page.locator("#vit-file input[type=file]").set_input_files(file)
    toast = visited.page.locator(".toast-body")
    toast.wait_for()
    assert "exceed the maximum allowed size of 1" in toast.inner_text()
    visited.problems[:] = [each for each in visited.problems if "413" not in each]
    assert visited.page.locator("#vit-answer .said").count() == 0


def test_a_run_that_is_spoilt_says_so_and_another_can_be_chosen(visit: Callable[..., Visit]):
    visited = visit()
    page = visited.page
    answer = visited.drop("forecast", "Forecast", "demand.csv", table())
    page.locator("#forecast-run input").click()
    choices = page.get_by_role("option").all_inner_texts()
    assert [choice.split()[-1 if "spoilt" in choice else 0] for choice in choices][-1] == "spoilt", "the newest first"
    page.get_by_role("option", name="spoilt").click()
    answer.locator(".wrong").wait_for()
    assert "best.ckpt is no readable checkpoint" in answer.inner_text()


def test_runs_that_come_and_go_while_the_page_is_served(browser: Any, runs: Path, tmp_path: Path):
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "first").symlink_to((runs / "vit" / "RUN").resolve())
    with served(tmp_path) as address:
        context = browser.new_context()
        visited = Visit(context, address)
        visited.page.get_by_role("tab", name="Forecast").click()
        assert (
            "python -m tasks.forecast fit trains one"
            in visited.page.get_by_role("tabpanel").locator(":visible").first.inner_text()
        )
        assert not visited.page.locator("#forecast-file").is_visible()
        (tmp_path / "forecast").mkdir()
        (tmp_path / "forecast" / "new").symlink_to((runs / "forecast" / "RUN").resolve())
        (tmp_path / "vit" / "second").symlink_to((runs / "vit" / "RUN").resolve())
        visited = Visit(context, address)
        assert "48 values" in visited.drop("forecast", "Forecast", "demand.csv", table()).inner_text()
        visited.page.get_by_role("tab", name="Classes").click()
        visited.page.locator("#vit-run input").click()
        visited.page.get_by_role("option", name="second").click()
        (tmp_path / "vit" / "second").unlink()
        answer = visited.drop("vit", "Classes", "digit.png", picture())
        assert answer.locator(".wrong").inner_text() == "second is no run any more; load this page again"
        assert [each for each in visited.problems if each != GRADIO_SAYS] == []
        context.close()


def ask(address: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, Any]:
    """A request by hand: its status, its text, its headers."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode(errors="replace"), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace"), error.headers


def test_no_request_by_hand_reads_a_file_of_the_server(address: str, runs: Path, tmp_path: Path):
    secret = Path(__file__).parents[3] / "pyproject.toml"
    for path in (
        f"/gradio_api/file={secret}",
        "/gradio_api/file=/etc/passwd",
        f"/gradio_api/file={runs}/vit/RUN/config.yaml",
    ):
        status, text, _ = ask(address, path)
        assert status in (403, 404)
        assert "root:" not in text
    config = json.loads(ask(address, "/config")[1])
    number = next(each["id"] for each in config["dependencies"] if len(each["inputs"]) == 3)
    (tmp_path / "own.png").write_bytes(picture())
    for session, path in (("a", f"{tmp_path}/own.png"), ("b", f"{address}/gradio_api/info/own.png")):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = {"data": ["RUN", file, False], "fn_index": number, "session_hash": session, "trigger_id": None}
        assert ask(address, "/gradio_api/queue/join?", body)[0] == 200
        text = ask(address, f"/gradio_api/queue/data?session_hash={session}")[1]
        assert "own.png was not dropped on this page" in text
        assert "bars" not in text


def test_a_file_that_is_sent_by_hand_is_no_larger_and_lands_nowhere_else(address: str, tmp_path: Path):
    def send(name: str, size: int) -> tuple[int, str]:
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        form = head.encode() + bytes(size) + b"\r\n--x--\r\n"
        status, text, _ = ask(
            address, "/gradio_api/upload", form, **{"Content-Type": "multipart/form-data; boundary=x"}
        )
        return status, text

    assert send("large.png", 2_000_000)[0] == 413
    status, text = send(f"../../../../..{tmp_path}/evil.png", 10)
    assert status == 200
    (path,) = json.loads(text)
    assert re.search(r"onecore-demo-\w+/uploads/\w+/evil\.png$", path)
    assert not list(tmp_path.iterdir())


def test_it_answers_only_under_its_own_name_and_lets_the_page_ask_nobody_else(address: str):
    status, _, headers = ask(address, "/")
    assert status == 200
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert ask(address, "/", Host="evil.example")[0] == 400, "a name that leads here (DNS rebinding)"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "8.8.8.8", "my-machine", "localhost.evil.example"])
def test_other_machines_are_let_in_only_where_that_is_asked_for(host: str, capsys):
    assert main([f"--host={host}", "--runs=nowhere"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --host={host}: other machines may reach it")
    check_host(host, allow_remote=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_is_let_in(host: str):
    check_host(host, allow_remote=False)


def test_mistakes_get_one_line(tmp_path: Path, runs: Path, capsys):
    pytest.importorskip("gradio", reason="gradio is not installed (extra demo)")
    assert main([f"--runs={tmp_path}"]) == 1
    assert capsys.readouterr().err == (
        f"error: --runs={tmp_path}: holds no run ({tmp_path}/TASK/*/checkpoints/best.ckpt); train one: "
        "python -m tasks.vit fit\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([f"--runs={runs}", f"--port={port}"]) == 1
    assert f"--port={port}: cannot listen there" in capsys.readouterr().err
    for args in (["--port=99999"], ["--max-mb=0"], ["--hots=x"]):
        assert main(args) == 2
        assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(UsageError):
        parser().parse_args(["--share"])
