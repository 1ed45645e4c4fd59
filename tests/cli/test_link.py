"""`link`: a file of IDs goes all the way, before a gateway in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .linking import Linking, linking
from .processes import PATIENCE_SECONDS, REPOSITORY, Process, command, environment, free_port, run, started
from .scripted import Answer, job, problem, scripted
from .shell import Ran, Shell

ORDERS = ("link", "--param", "orderIds", "--file")
FAST = ("--token", "fast")
SLOW = ("--token", "slow")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linking]:
    """A gateway that serves, for the whole file."""
    with linking(tmp_path_factory.mktemp("link")) as state:
        yield state


@pytest.fixture
def shell(state: Linking, shell_of: Callable[[Path], Shell]) -> Shell:
    """A shell that calls as `service`."""
    return state.calling(state.admitted(shell_of(state.served.state_dir)))


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    """Writes a file of IDs; gives its name."""

    def written(*ids: object, name: str = "ids.csv") -> str:
        path = tmp_path / name
        path.write_text("\n".join(map(str, ids)) + "\n", encoding="utf-8")
        return str(path)

    return written


def job_of(ran: Ran) -> str:
    """The job that a command told of."""
    found = re.search(r"^job (\S+): ", ran.out, re.MULTILINE)
    assert found, ran
    return found[1]


def without_ids(text: str) -> str:
    """A text with its jobs' IDs taken out."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)


def test_a_file_is_linked(shell: Shell, file: Callable[..., str]) -> None:
    """A file's IDs go out as one job; the command ends with status 0 once all are answered, and says how many were linked."""
    ran = shell(*ORDERS, file("order_id,name", *(f"{number},a" for number in range(1001, 1061)), "1001,again"), *FAST)

    assert (ran.status, without_ids(ran.out)) == (0, "job ID: succeeded\n60 IDs: 60 answered, 60 linked, 0 failed, 0 cancelled\n")
    lines = without_ids(ran.err).splitlines()
    assert re.fullmatch(r"ID: (queued|running|succeeded), \d+ of 60 IDs, 0 failed.*", lines[0])
    assert lines[-1].startswith("ID: succeeded, 60 of 60 IDs, 0 failed")


def test_standard_input_is_linked(shell: Shell) -> None:
    """A hyphen has the IDs read from standard input, one a line."""
    ran = shell(*ORDERS, "-", *FAST, given="1101\n1102\n")

    assert (ran.status, without_ids(ran.out)) == (0, "job ID: succeeded\n2 IDs: 2 answered, 2 linked, 0 failed, 0 cancelled\n")
    assert shell(*ORDERS, "-", "--dry-run", given="1\n").out.startswith("standard input: 1 IDs; ")


def test_some_that_failed_are_status_1(shell: Shell, state: Linking, file: Callable[..., str]) -> None:
    """Where Flxpoint refuses an ID, the command ends with status 1 and says how many and which."""
    state.plan(kind="status", status=422, body="no such order", count=1)

    ran = shell(*ORDERS, file(1103), *FAST)

    assert ran.status == 1
    assert without_ids(ran.out) == "job ID: failed\n1 IDs: 0 answered, 0 linked, 1 failed, 0 cancelled\n"
    assert ran.err.splitlines()[-1].startswith("1103: upstream-422: ")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_result_says_what_became_of_each_id(
    shell: Shell, file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The result holds a line for each ID, also where the file became several jobs; a table has one heading."""
    monkeypatch.setattr("app.cli.link.JOB_IDS", 2)
    target = tmp_path / f"result.{form}"

    ran = shell(*ORDERS, file(*range(1190, 1195)), *FAST, "--output", str(target))

    with target.open(encoding="utf-8", newline="") as written:
        lines = list(csv.DictReader(written)) if form == "csv" else list(map(json.loads, written))
    assert ran.status == 0
    assert [int(line["id"]) for line in lines] == list(range(1190, 1195))
    assert {line["outcome"] for line in lines} == {"answered"}


def test_a_result_goes_into_a_pipe(shell: Shell, file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no file gets the whole result, of several jobs too, and nothing takes its place."""
    monkeypatch.setattr("app.cli.link.JOB_IDS", 2)
    pipe = tmp_path / "result.csv"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as other:
        reading = other.submit(pipe.read_text, encoding="utf-8")
        ran = shell(*ORDERS, file(*range(1181, 1184)), *FAST, "--output", str(pipe))
        lines = list(csv.DictReader(reading.result(PATIENCE_SECONDS).splitlines()))

    assert ran.status == 0
    assert [int(line["id"]) for line in lines] == [1181, 1182, 1183]
    assert pipe.is_fifo()


def test_a_result_goes_to_standard_output(shell: Shell, state: Linking, file: Callable[..., str]) -> None:
    """A device is written to as well, before it is said how the jobs ended."""
    del shell
    ran = run(*ORDERS, file(1184), *FAST, "--output", "/dev/stdout", variables=state.variables())
    first, second, *_ = ran.stdout.splitlines()

    assert (ran.returncode, json.loads(first)["id"]) == (0, 1184)
    assert second.startswith("job ")


def test_files_longer_than_a_job_become_several(shell: Shell, file: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """More IDs than a job takes go out as jobs one after the other, under one sum."""
    monkeypatch.setattr("app.cli.link.JOB_IDS", 3)

    ran = shell(*ORDERS, file(*range(1110, 1117)), *FAST)

    assert ran.status == 0
    assert without_ids(ran.out) == "job ID: succeeded\n" * 3 + "7 IDs: 7 answered, 7 linked, 0 failed, 0 cancelled\n"
    assert len(set(re.findall(r"^job (\S+):", ran.out, re.MULTILINE))) == 3


def test_a_million_ids_are_ten_jobs(shell: Shell, file: Callable[..., str]) -> None:
    """A million IDs go out as ten jobs, each when the one before has ended; every ID is in one of them, in the file's order."""
    with scripted(job("succeeded", answered=100)) as gateway:
        shell.set(URL=gateway.url)
        ran = shell(*ORDERS, file(*range(1, 1_000_001)))

    batches = [json.loads(one.body)["ids"] for one in gateway.asked if one.method == "POST"]
    assert ran.status == 0
    assert [one.method for one in gateway.asked] == ["POST", "GET"] * 10
    assert [(len(ids), ids[0], ids[-1]) for ids in batches] == [
        (100_000, 1 + start, 100_000 + start) for start in range(0, 1_000_000, 100_000)
    ]


def test_a_dry_run_asks_nobody(shell: Shell, file: Callable[..., str]) -> None:
    """It says what the file holds and what would be done, by the catalogue of this machine, wherever the gateway is."""
    shell.set(URL=f"http://127.0.0.1:{free_port()}")
    name = file("id", *range(1, 100_201), 7, 8)

    ran = shell(*ORDERS, name, "--dry-run")
    rest = shell(*ORDERS, name, "--dry-run", "--skip", "100000")

    assert ran == Ran(
        0,
        f"{name}: 100200 IDs under a header; 2 repeated ones are left out, 0 skipped\n"
        "would ask for link-orders by orderIds: 100200 IDs, jobs: 2\n"
        "sends: 2004, of 50 IDs at most; about 16 min 42 s at 2 a second\n",
        "",
    )
    assert rest.out.splitlines()[1:] == [
        "would ask for link-orders by orderIds: 200 IDs, jobs: 1",
        "sends: 4, of 50 IDs at most; about 2 s at 2 a second",
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--operation", "list-orders"), "--operation: the catalogue has none of that name, but link-orders\n"),
        (("--param", "orderId"), "--param: link-orders has none of that name, but orderIds, orderItemIds, channelIds\n"),
        (("--skip", "1"), "--skip: the file has 1 IDs, so none is left\n"),
    ],
)
def test_a_dry_run_finds_what_cant_be_done(shell: Shell, file: Callable[..., str], options: tuple[str, ...], reason: str) -> None:
    """What no gateway with this catalogue would take is status 2, and says what there is."""
    assert shell(*ORDERS, file(1), "--dry-run", *options) == Ran(2, "", reason)


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_wrong_file_costs_nothing(shell: Shell, file: Callable[..., str], dry: tuple[str, ...]) -> None:
    """A file with a wrong line is status 2 before anything is sent."""
    before = shell("jobs", "list", "--json").document
    name = file(*range(1, 73_812), "12a", 73_813)

    ran = shell(*ORDERS, name, *FAST, *dry)

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"{name}: line 73812: ")
    assert shell("jobs", "list", "--json").document == before


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--token", "none"), "token-not-granted: "),
        ((), "token-ambiguous: "),
        (("--token", "fast", "--operation", "none"), "not-found: "),
        (("--token", "fast", "--param", "none"), "parameter-unknown: "),
    ],
)
def test_a_batch_that_is_refused_is_status_2(shell: Shell, file: Callable[..., str], options: tuple[str, ...], code: str) -> None:
    """What the gateway doesn't take is told with its problem in one line."""
    ran = shell(*ORDERS, file(1001), *options)

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(code)


def test_a_wrong_key_and_a_wrong_address_are_status_2(shell: Shell, file: Callable[..., str]) -> None:
    """Who isn't known, and who asks where no gateway is, is told so in one line."""
    name = file(1001)
    shell.set(KEY="fgk_0123456789ab_" + "C" * 43)
    unknown = shell(*ORDERS, name, *FAST)
    shell.set(URL=f"http://127.0.0.1:{free_port()}")
    nobody = shell(*ORDERS, name, *FAST)
    shell.set(URL="")
    nowhere = shell(*ORDERS, name, *FAST)

    assert [ran.status for ran in (unknown, nobody, nowhere)] == [2, 2, 2]
    assert unknown.err.startswith("credentials-invalid: ")
    assert nobody.err.startswith("no gateway can be asked at http://127.0.0.1:")
    assert nowhere.err.startswith("GATEWAY_URL: should be the gateway's address")


@pytest.mark.parametrize(
    "arguments", [("link",), ("link", "--file", "ids.csv"), ("link", "--param", "a"), ("link", "--resume", "a", "--dry-run")]
)
def test_a_slip_in_the_arguments_is_status_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    """A file and its parameter go together, and neither goes with a job that is there already."""
    ran = shell(*arguments)

    assert (ran.status, ran.out) == (2, "")


@pytest.mark.parametrize("job_id", ["00000000-0000-7000-8000-000000000000", "a job", "../me", "A-TOKEN/value+1="])
def test_a_job_that_isnt_there_isnt_followed(shell: Shell, job_id: str) -> None:
    """An ID that no job has is status 2, and one that no job could have is not repeated."""
    ran = shell("link", "--resume", job_id)

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith("not-found: there is no job ")
    assert job_id in ran.err or ran.err == "not-found: there is no job of that ID\n"


def test_an_output_that_cant_be_written_costs_nothing(shell: Shell, file: Callable[..., str], tmp_path: Path) -> None:
    """Where the result couldn't be kept, nothing is sent."""
    before = shell("jobs", "list", "--json").document

    ran = shell(*ORDERS, file(1001), *FAST, "--output", str(tmp_path / "none" / "result.csv"))

    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "result.csv can't be written: No such file or directory" in ran.err
    assert shell("jobs", "list", "--json").document == before


def interrupted(state: Linking, folder: Path, *arguments: str, lines: int = 1) -> Process:
    """The command, sent SIGINT once it follows a job."""
    with started(*arguments, variables=state.variables(), folder=folder) as linking:
        linking.wait_for_line(" IDs, 0 failed", lines)
        linking.process.send_signal(signal.SIGINT)
        linking.process.wait(PATIENCE_SECONDS)
    return linking


def test_an_interrupted_job_goes_on(shell: Shell, state: Linking, file: Callable[..., str], tmp_path: Path) -> None:
    """Ctrl-C ends the command with status 130, says how to go on, and cancels nothing; `--resume` follows the job to its end."""
    ended = interrupted(state, tmp_path / "run", *ORDERS, file(*range(1120, 1180)), *SLOW)
    said = ended.err.splitlines()[-3:]
    job_id = said[0].rpartition(" ")[2]

    resumed = shell("link", "--resume", job_id)

    assert ended.process.returncode == 130
    assert said == [
        f"the gateway goes on with job {job_id}",
        f"to follow it: flxpoint-gateway link --resume {job_id}",
        f"to cancel it: flxpoint-gateway jobs cancel {job_id}",
    ]
    assert (resumed.status, resumed.out) == (
        0,
        f"job {job_id}: succeeded\n60 IDs: 60 answered, 60 linked, 0 failed, 0 cancelled\n",
    )


def test_an_interruption_while_a_batch_is_sent(file: Callable[..., str], tmp_path: Path) -> None:
    """Ctrl-C before the gateway has answered leaves open whether there is a job; how to find out is said."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = environment(URL=f"http://127.0.0.1:{silent.getsockname()[1]}", KEY="fgk_key")
        with started(*ORDERS, file(1001), variables=variables, folder=tmp_path / "run") as linking:
            silent.settimeout(PATIENCE_SECONDS)
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                linking.process.send_signal(signal.SIGINT)
                status = linking.process.wait(PATIENCE_SECONDS)

    assert status == 130
    assert linking.err == "interrupted while a batch was sent; `flxpoint-gateway jobs list` shows whether the gateway has it\n"


def test_a_cancelled_job_is_status_1(shell: Shell, state: Linking, file: Callable[..., str], tmp_path: Path) -> None:
    """A job that is cancelled while it is followed ends the command with status 1 and the count of what wasn't sent."""
    with started(*ORDERS, file(*range(2001, 2601)), *SLOW, variables=state.variables(), folder=tmp_path / "run") as linking:
        linking.wait_for_line(" IDs, 0 failed")
        job_id = linking.err.partition(":")[0]
        cancelled = shell("jobs", "cancel", job_id, "--json").document
        status = linking.process.wait(PATIENCE_SECONDS)

    assert cancelled["id"] == job_id
    assert status == 1
    assert linking.out.startswith(f"job {job_id}: cancelled\n600 IDs: ")


def test_what_wasnt_sent_is_named(shell: Shell, state: Linking, file: Callable[..., str], tmp_path: Path) -> None:
    """Where an interruption leaves IDs of the file unsent, the command that sends them is printed; it leaves out the first job's.

    It and the command that follows the job say where the result shall go, and in which form, as it was said.
    """
    name, output = file(*range(10_001, 110_003)), ("--output", str(tmp_path / "result"), "--format", "csv")
    ended = interrupted(state, tmp_path / "run", *ORDERS, name, *SLOW, *output)
    job_id = ended.err.partition(":")[0]
    shell("jobs", "cancel", job_id)

    rest = f"flxpoint-gateway link --param orderIds --file {name} --operation link-orders --token slow --priority batch --skip 100000"
    assert ended.process.returncode == 130
    assert f"to follow it: flxpoint-gateway link --resume {job_id} {' '.join(output)}\n" in ended.err
    assert ended.err.splitlines()[-1] == f"2 IDs were not sent; to send them: {rest} {' '.join(output)}"


def test_a_terminal_gets_a_bar(shell: Shell, state: Linking, file: Callable[..., str]) -> None:
    """On a terminal a bar shows how many IDs are done of how many, how fast, when it will end, and how many failed."""
    del shell
    ours, theirs = pty.openpty()
    variables = state.variables() | {"TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(
        command(*ORDERS, file(*range(3001, 3401)), *SLOW), env=variables, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as linking:
        os.close(theirs)
        shown = read_to_end(ours)
        assert linking.wait(PATIENCE_SECONDS) == 0

    for text in (r"\d+/400", r"[\d.]+ IDs/s", r"ends \d\d:\d\d:\d\d", "0 failed", "━"):
        assert re.search(text, shown), text


def read_to_end(terminal: int) -> str:
    """What a terminal shows until nobody writes to it any more."""
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # EIO: Linux's way to say that the other side is closed
            piece = b""
        if not piece:
            os.close(terminal)
            return shown.decode()
        shown += piece


def test_a_gateway_that_restarts_is_waited_for(shell: Shell, state: Linking, file: Callable[..., str], tmp_path: Path) -> None:
    """A gateway that is stopped and started again while a job is followed costs a pause; the job goes on and is followed to its end."""
    del shell
    with started(*ORDERS, file(*range(5001, 5301)), *SLOW, variables=state.variables(), folder=tmp_path / "run") as linking:
        linking.wait_for_line(" IDs, 0 failed")
        state.served.gateway.stop()
        linking.wait_for_line("trying again in")
        state.served.start()
        status = linking.process.wait(PATIENCE_SECONDS)

    assert status == 0, linking.err
    assert "300 IDs: 300 answered" in linking.out


RESULT = b'{"id": 1001, "outcome": "answered"}\n'


def test_a_result_is_its_owners_alone(shell: Shell, file: Callable[..., str], tmp_path: Path) -> None:
    """The result takes its place when it is complete, in the form that the file's name tells, readable by its owner only."""
    target = tmp_path / "out" / "result.csv"
    target.parent.mkdir()
    with scripted(job("queued"), job("succeeded", answered=100), Answer(body=b"id,outcome\r\n1001,answered\r\n")) as gateway:
        shell.set(URL=gateway.url)
        ran = shell(*ORDERS, file(1001), "--output", str(target))

    assert ran.status == 0
    assert ran.out.splitlines()[-1] == f"the result is in {target}"
    assert target.read_bytes() == b"id,outcome\r\n1001,answered\r\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(target.parent.iterdir()) == [target]
    assert gateway.asked[-1].target == "/gateway/jobs/a-job/result?format=csv"


@pytest.mark.parametrize(
    ("name", "options", "form"),
    [("a.jsonl", (), "jsonl"), ("a.txt", (), "jsonl"), ("A.CSV", (), "csv"), ("a.csv", ("--format", "jsonl"), "jsonl")],
)
def test_a_results_form(shell: Shell, tmp_path: Path, name: str, options: tuple[str, ...], form: str) -> None:
    """Its form is the one asked for, else the one of the file's name, else JSON Lines."""
    with scripted(job("succeeded"), Answer(body=RESULT)) as gateway:
        shell.set(URL=gateway.url)
        shell("link", "--resume", "a-job", "--output", str(tmp_path / name), *options)

    assert gateway.asked[-1].target == f"/gateway/jobs/a-job/result?format={form}"


def test_what_is_broken_off_leaves_no_result(shell: Shell, tmp_path: Path) -> None:
    """Where the work ends early, the file that was there before is there still, and no half one; how to go on is said."""
    target = tmp_path / "out" / "result.jsonl"
    target.parent.mkdir()
    target.write_text("an older result", encoding="utf-8")
    with scripted(job("succeeded"), problem(401, "credentials-invalid")) as gateway:
        shell.set(URL=gateway.url)
        ran = shell("link", "--resume", "a-job", "--output", str(target))

    assert (ran.status, ran.err.splitlines()[-1]) == (2, "credentials-invalid: this is credentials-invalid")
    assert f"to follow it: flxpoint-gateway link --resume a-job --output {target}" in ran.err.splitlines()
    assert target.read_text(encoding="utf-8") == "an older result"
    assert list(target.parent.iterdir()) == [target]


def test_the_first_failures_are_shown(shell: Shell) -> None:
    """Of what failed the first few are named with their problem and the rest is counted; control characters do nothing."""
    failing = {"type": "/gateway/problems/upstream-422", "detail": "no\x1b[2J such order"}
    failures = [{"id": number, "problem": failing} for number in range(1, 8)]
    body = json.loads(job("partly-failed", answered=90, failed=10).body) | {"failures": failures, "uncertain": True}
    with scripted(Answer(body=json.dumps(body).encode())) as gateway:
        shell.set(URL=gateway.url)
        ran = shell("link", "--resume", "a-job")

    assert ran.status == 1
    assert ran.out.splitlines()[1:] == [
        "100 IDs: 90 answered, 0 linked, 10 failed, 0 cancelled",
        "uncertain: more may have been linked than is known",
    ]
    assert ran.err.splitlines()[1:] == [f"{number}: upstream-422: no\\x1b[2J such order" for number in range(1, 6)] + ["and 5 more"]
