"""Names of checkpoints: what is here is found, and what is not is told at once, also where no line is."""

import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from medr1.errors import ModelError
from medr1.models import zoo
from medr1.models.zoo import locate


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `snapshot_download` was asked for; nothing is cached and nothing known."""
    calls: list[dict[str, Any]] = []

    def fetch(name: str, **given: Any) -> str:
        calls.append({"name": name, **given})
        if given["local_files_only"]:
            raise LocalEntryNotFoundError("nothing cached")
        request = httpx2.Request("GET", "https://hub.invalid")
        raise RepositoryNotFoundError("404", response=httpx2.Response(404, request=request))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    zoo._silence.cache_clear()
    return calls


def hub_says(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    def model_info(self: Any, name: str, timeout: float) -> object:
        return answer(name)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


def test_a_folder_is_itself_and_other_words_are_no_names(tmp_path: Path, asked: list[Any]) -> None:
    assert locate(tmp_path) == tmp_path
    for word in ("nosuch", "a/b/c", "../gone/there", "two words/x"):
        with pytest.raises(
            ModelError, match="is no folder; name a checkpoint folder, a hub name or one of qwen2-vl-2b"
        ):
            locate(word)
    assert asked == []


def test_a_hub_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, asked: list[Any]) -> None:
    for_ever = Event()
    hub_says(monkeypatch, lambda name: for_ever.wait(600))
    monkeypatch.setenv(zoo.HUB_PATIENCE, "0.05")
    with pytest.raises(ModelError, match=r"nosuch/name is no folder and not in the cache .*no answer within 0\.05 s"):
        locate("nosuch/name")
    for_ever.set()
    assert [call["local_files_only"] for call in asked] == [True]


def test_a_line_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(name: str) -> object:
        raise httpx2.ConnectError("no route")

    hub_says(monkeypatch, down)
    with pytest.raises(ModelError, match=r"which cannot be asked \(ConnectError: no route\); check the name and"):
        locate("nosuch/name")


def test_a_hub_that_does_not_know_it_is_another_reason(monkeypatch: pytest.MonkeyPatch, asked: list[Any]) -> None:
    hub_says(monkeypatch, lambda name: None)
    with pytest.raises(ModelError, match=r"the hub did not give it .RepositoryNotFoundError.; check the name"):
        locate("qwen2-vl-2b")
    assert [(call["name"], call["local_files_only"]) for call in asked] == [("Qwen/Qwen2-VL-2B-Instruct", False)]


def test_a_wrong_name_is_told_without_torch() -> None:
    program = (
        "import sys\n"
        "from medr1.errors import ModelError\n"
        "from medr1.flows.ask import _checkpoint, trained_prompt\n"
        "try: trained_prompt('nosuch')\n"
        "except ModelError: pass\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
