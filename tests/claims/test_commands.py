import json
import sys
from pathlib import Path

import pytest

from latentia.claims import all_claims
from latentia.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["latentia", "claims", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_a_claim_is_run_stored_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "run", "atoms-ring") == 0
    printed = capsys.readouterr().out
    folder = Path("runs/claims/atoms-ring-quick")
    result = json.loads((folder / "result.json").read_text())
    assert f"atoms-ring: {result['verdict']} (quick, 2 seeds)" in printed
    assert not Path("claims/results").exists()  # a quick run is no evidence
    assert run(monkeypatch, "run", "atoms-ring") == 2
    assert "is not empty: resume" in capsys.readouterr().err
    assert run(monkeypatch, "run", "atoms-ring", "--resume") == 0
    assert json.loads((folder / "result.json").read_text())["cells"] == result["cells"]

    Path("docs").mkdir()
    assert run(monkeypatch, "table", "--results", str(folder)) == 2  # the folder holds cells too, which are no results
    assert "is not a result" in capsys.readouterr().err
    Path("results").mkdir()
    (folder / "result.json").rename("results/atoms-ring.json")
    assert run(monkeypatch, "table", "--results", "results") == 0
    assert f"**{result['verdict']}**" in Path("docs/claims.md").read_text()


def test_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentia.claims.run_claim", interrupted)
    assert run(monkeypatch, "run", "atoms-ring") == 130
    assert "--resume" in capsys.readouterr().err


def test_claims_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, "list") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in all_claims())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "atoms-rings"], "there is no claim 'atoms-rings', only atoms-cola, atoms-digits"),
        (["run", "atoms-ring", "--budget", "huge"], "must be one of quick, full"),
        (["table", "--results", "nowhere"], "no folder nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    complaint = capsys.readouterr().err
    assert words in complaint and complaint.count("\n") == 1
