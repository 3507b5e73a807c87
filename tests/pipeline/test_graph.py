"""When a stage runs, when it does not, and the exact reason given."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.artifacts import Writer
from pipeline.config import param
from pipeline.graph import Planner
from pipeline.plan import Plan
from pipeline.stage import Context, stage_command
from tests.pipeline.conftest import Shell
from tests.pipeline.toys import CHAIN, Pigment, grind_command, hang_command, paint_command

STAGES = {command.stage.name: command.stage for command in (grind_command, paint_command, hang_command)}


def plans(folder: Path, **settings: dict[str, object]) -> dict[str, Plan]:
    tables = {name.replace("_", "-"): table for name, table in settings.items()}
    planner = Planner(folder / "outputs" / "demo", tables, order=CHAIN)
    return {name: planner.plan(stage) for name, stage in STAGES.items()}


def said(folder: Path, **settings: dict[str, object]) -> list[tuple[str, str]]:
    return [(plan.action, "; ".join(plan.reasons)) for plan in plans(folder, **settings).values()]


@pytest.fixture
def made(shell: Shell, chain_file: Path) -> Path:
    """A folder with the finished chain, strength 0.5."""
    assert shell("run", "--config", chain_file).code == 0
    return chain_file.parent


PAINTED = {"strength": 0.5}


def test_done_stages_are_skipped(made: Path) -> None:
    assert said(made, paint=PAINTED) == [("skip", "done")] * 3


def test_the_fingerprints_of_a_chain_are_known_before_it_starts(made: Path, shell: Shell) -> None:
    shutil.rmtree(made / "outputs")
    before = {name: plan.fingerprint for name, plan in plans(made, paint=PAINTED).items()}
    assert shell("run", "--config", "toys.toml").code == 0
    for name, value in before.items():
        record = manifest.read_record(made / "outputs" / "demo" / name)
        assert record is not None
        assert record["fingerprint"] == value


def test_one_changed_option_reruns_exactly_what_depends_on_it(made: Path) -> None:
    assert said(made, paint={"strength": 0.25}) == [
        ("skip", "done"),
        ("run", "strength: 0.5 -> 0.25"),
        ("run", "input picture will change: paint runs again"),
    ]
    assert said(made, paint=PAINTED, grind_pigment={"parts": 2, "hue": "blue"}) == [
        ("run", "parts: 3 -> 2; hue: red -> blue"),
        ("run", "input pigment will change: grind-pigment runs again"),
        ("run", "input picture will change: paint runs again"),
    ]


def test_a_remade_input_is_named(made: Path, shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo", "--seed", 1).code == 0
    answer = shell("paint", "--run", "demo", "--strength", 0.5, "-n")
    assert "would run: input pigment changed: made again" in answer.out


def test_a_new_stage_version_reruns(made: Path) -> None:
    newer = dataclasses.replace(STAGES["paint"], version=2)
    plan = Planner(made / "outputs" / "demo", {"paint": PAINTED}).plan(newer)
    assert (plan.action, plan.reasons) == ("run", ("stage version 1 -> 2",))


def test_lost_and_shortened_files_are_made_again(made: Path) -> None:
    folder = made / "outputs" / "demo" / "grind-pigment"
    (folder / "part-1.bin").unlink()
    (folder / "part-2.bin").write_bytes(b"short")
    reasons = "output file part-1.bin missing; output file part-2.bin has 5 bytes, not 600"
    assert said(made, paint=PAINTED) == [("continue", reasons), ("skip", "done"), ("skip", "done")]


def test_a_file_edited_by_hand_makes_later_stages_run_and_is_not_overwritten(made: Path, shell: Shell) -> None:
    picture = made / "outputs" / "demo" / "paint" / "picture.txt"
    picture.write_text("signed", "utf-8")
    assert said(made, paint=PAINTED) == [
        ("skip", "done"),
        ("skip", "done"),
        ("run", "input picture changed: picture.txt edited by hand"),
    ]
    answer = shell("paint", "--run", "demo")
    assert answer.code == 2
    assert "holds edits by hand (picture.txt) and paint would run again (strength: 0.5 -> 0.7)" in answer.err
    assert picture.read_text("utf-8") == "signed"
    assert shell("paint", "--run", "demo", "--force").code == 0
    assert picture.read_text("utf-8") != "signed"


def test_the_content_of_a_named_file_counts_not_its_name(made: Path, tmp_path: Path) -> None:
    def state(sieve: Path) -> tuple[str, str]:
        return said(made, grind_pigment={"sieve": str(sieve)})[0]

    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("fine", "utf-8")
    two.write_text("fine", "utf-8")
    planner = Planner(made / "outputs" / "demo", {"grind-pigment": {"sieve": str(one)}})
    prints = {planner.plan(STAGES["grind-pigment"]).fingerprint}
    planner.tables = {"grind-pigment": {"sieve": str(two)}}
    prints.add(planner.plan(STAGES["grind-pigment"]).fingerprint)
    assert len(prints) == 1
    two.write_text("coarse", "utf-8")
    prints.add(planner.plan(STAGES["grind-pigment"]).fingerprint)
    assert len(prints) == 2
    assert state(one) == ("run", f"sieve: none -> {one}")


def test_what_a_stage_says_it_depends_on_counts(made: Path) -> None:
    weights = {"weights": "a"}

    def run(config: object, out: Writer[Pigment], ctx: Context) -> None:
        (out.path / "part-0.bin").write_bytes(b"x")

    run.__annotations__["config"] = STAGES["grind-pigment"].config_type
    stage = stage_command("grind-pigment", STAGES["grind-pigment"].config_type, run, depends=lambda _: weights).stage
    planner = Planner(made / "outputs" / "demo")
    assert planner.plan(stage).reasons == ("weights changed",)
    first = planner.plan(stage).fingerprint
    weights["weights"] = "b"
    assert planner.plan(stage).fingerprint != first


def test_new_and_dropped_settings_are_reasons(made: Path) -> None:
    folder = made / "outputs" / "demo" / "hang"
    record = manifest.read_record(folder)
    assert record is not None
    record["config"] = {"nail": 3}
    record["fingerprint"] = "0"
    manifest.write_json(folder / "run.json", record)
    assert said(made, paint=PAINTED)[2] == ("run", "height: new setting (1.5); nail: no longer a setting")


def test_a_missing_input_names_the_command_that_makes_it(shell: Shell) -> None:
    answer = shell("paint", "--run", "demo")
    assert answer.code == 2
    assert answer.err == (
        "Error: paint needs a pigment (pigment) and outputs/demo has none: make it with "
        "`python cli.py grind-pigment --run demo`, or name one with --pigment PATH.\n"
    )


def test_an_unfinished_input_is_told_apart_from_a_missing_one(made: Path, shell: Shell) -> None:
    folder = made / "outputs" / "demo" / "grind-pigment"
    (folder / "run.json").rename(folder / "progress.json")
    answer = shell("paint", "--run", "demo")
    assert answer.code == 2
    assert "outputs/demo/grind-pigment is unfinished: `python cli.py grind-pigment --run demo` continues it" in (
        answer.err
    )


def test_an_optional_input_joins_when_it_is_there(made: Path, shell: Shell) -> None:
    frame = made / "gold"
    frame.mkdir()
    (frame / "frame.txt").write_text("gold", "utf-8")
    answer = shell("paint", "--run", "demo", "--strength", 0.5, "--frame", frame, "-n")
    assert "would run: input frame is new: gold" in answer.out
    assert shell("paint", "--run", "demo", "--strength", 0.5, "--frame", frame).code == 0
    assert (made / "outputs/demo/paint/picture.txt").read_text("utf-8") == "3 parts, framed, strength 0.5"
    assert "would run: input frame is gone" in shell("paint", "--run", "demo", "--strength", 0.5, "-n").out


def test_an_input_of_the_wrong_kind_is_refused(made: Path, shell: Shell) -> None:
    answer = shell("paint", "--run", "demo", "--pigment", "outputs/demo/hang")
    assert answer.code == 2
    assert answer.err == (
        "Error: pigment (option --pigment): outputs/demo/hang holds a room (room), expected a pigment (pigment).\n"
    )


def test_two_candidates_are_an_error_that_says_how_to_choose(made: Path, shell: Shell) -> None:
    shutil.copytree(made / "outputs/demo/grind-pigment", made / "outputs/demo/other")
    answer = shell("paint", "--run", "demo")
    assert answer.code == 2
    assert "finds 2 artifacts of kind pigment in outputs/demo (grind-pigment, other): choose one with" in answer.err
    assert shell("run", "--config", "toys.toml").code == 0  # in a chain the nearest stage before is meant


def test_an_input_given_to_one_stage_serves_the_others(made: Path, shell: Shell) -> None:
    shutil.move(made / "outputs/demo/grind-pigment", made / "stock")
    shutil.rmtree(made / "outputs/demo/paint")
    assert shell("paint", "--run", "demo", "--pigment", "stock").code == 0
    planner = Planner(Path("outputs/demo"))
    source = planner.plan(STAGES["hang"]).sources["picture"]
    assert source.origin == "found in the run folder"
    other = stage_command("varnish", STAGES["paint"].config_type, STAGES["paint"].function).stage
    source = planner.plan(other).sources["pigment"]
    assert (source.path, source.origin) == (Path("stock"), "used by other stages of the run")


def test_a_folder_with_other_peoples_files_is_not_emptied(tmp_path: Path, shell: Shell) -> None:
    precious = tmp_path / "outputs/demo/grind-pigment/thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("x", "utf-8")
    answer = shell("grind-pigment", "--run", "demo")
    assert answer.code == 2
    assert "holds files that grind-pigment did not write (thesis.txt)" in answer.err
    assert precious.exists()


def test_outputs_can_be_moved(made: Path) -> None:
    shutil.move(made / "outputs", made / "elsewhere")
    (made / "sub").mkdir()
    shutil.move(made / "elsewhere", made / "sub" / "outputs")
    planner = Planner(made / "sub" / "outputs" / "demo", {"paint": PAINTED}, order=CHAIN)
    assert [planner.plan(stage).action for stage in STAGES.values()] == ["skip"] * 3
    text = "".join(path.read_text("utf-8") for path in (made / "sub").rglob("run.json"))
    assert str(made) not in text


@dataclasses.dataclass(frozen=True, kw_only=True)
class StirConfig:
    """Options of a stage that can go on."""

    minutes: int = param(1, "How long.", min=1, resumes=True)
    spoons: int = param(1, "With how many.", min=1, resumes=True)
    hue: str = param("red", "Of what.")


def stir(config: StirConfig, out: Writer[Pigment], ctx: Context) -> None:
    """Never called here: only planned."""
    raise AssertionError


def test_a_longer_run_goes_on_from_the_shorter_one(tmp_path: Path) -> None:
    command = stage_command("stir", StirConfig, stir)
    folder = tmp_path / "outputs" / "demo"

    def planned(**table: object) -> Plan:
        return Planner(folder, {"stir": table}).plan(command.stage)

    def leave(name: str, plan: Plan) -> None:
        """Leave a folder as a finished (run.json) or an interrupted (progress.json) run does."""
        shutil.rmtree(folder, ignore_errors=True)
        plan.folder.mkdir(parents=True)
        record = {"stage": "stir", "stage_version": 1, "fingerprint": plan.fingerprint, "config": plan.config_json}
        manifest.write_json(plan.folder / name, record)

    for name, words in ((manifest.RECORD, ()), (manifest.PROGRESS, ("unfinished: continuing",))):
        leave(name, planned())
        longer = planned(minutes=3, spoons=2)
        assert (longer.action, longer.kept) == ("continue", True)
        assert longer.reasons == (*words, "minutes: 1 -> 3", "spoons: 1 -> 2")
        other = planned(minutes=3, hue="blue")
        assert (other.action, other.kept) == ("run", False)
        forced = Planner(folder, {"stir": {"minutes": 3}}).plan(command.stage, force=True)
        assert (forced.action, forced.kept) == ("run", False)
        table = manifest.read_record(longer.folder) or manifest.read_progress(longer.folder) or {}
        manifest.write_json(longer.folder / name, {**table, "stage_version": 0})
        assert not planned(minutes=3).kept  # another version of the stage may write other files
