"""The peers themselves: each starts, answers, dies when told and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from kombu import Connection
from pydicom.data import get_testdata_file

from tests.peers import brokers, dcmtk
from tests.peers.dcmtk import StoreSCP
from tests.peers.pacs import Orthanc
from tests.peers.server import listening, program, wait_until


def test_orthanc_takes_keeps_finds_and_forwards(orthanc: Orthanc, storescp: StoreSCP) -> None:
    """An object put into Orthanc is found by its keywords, and arrives at another system by Orthanc's own C-STORE."""
    study = orthanc.upload_all([Path(str(get_testdata_file("CT_small.dcm")))])
    orthanc.know("sink", storescp.ae_title, storescp.port)

    assert orthanc.echo("sink")
    assert orthanc.store_to("sink", study)["FailedInstancesCount"] == 0
    (found,) = orthanc.find("Instance", PatientID="1CT1")
    assert orthanc.tags(found["ID"])["Modality"] == "CT"
    assert len(storescp.received()) == 1


def test_dcmtk_sends_and_is_answered(orthanc: Orthanc) -> None:
    """C-ECHO, and C-STORE by both of DCMTK's senders, end with return code 0 and the objects at the peer."""
    files = [Path(str(get_testdata_file(name))) for name in ("CT_small.dcm", "MR_small.dcm")]

    assert dcmtk.echoscu(orthanc.dicom_port).returncode == 0
    assert dcmtk.storescu(orthanc.dicom_port, files[:1]).returncode == 0
    assert dcmtk.dcmsend(orthanc.dicom_port, files[1:], nagle=True).returncode == 0
    assert len(orthanc.instances()) == 2


def test_a_killed_server_is_gone_and_starts_again(storescp: StoreSCP) -> None:
    """A test may pull a peer's plug and put it back: the port goes silent and then answers."""
    storescp.server.kill()
    # A child that storescp forked for its last caller has the port until it notices.
    wait_until(lambda: not listening(storescp.port), "the port to go silent")
    storescp.server.start()
    assert dcmtk.echoscu(storescp.port).returncode == 0


@pytest.mark.parametrize("fixture", ["redis_url", "rabbitmq_url"])
def test_brokers_carry_a_message(fixture: str, request: pytest.FixtureRequest) -> None:
    """What is put in a queue comes out of it."""
    with Connection(request.getfixturevalue(fixture)) as connection:
        queue = connection.SimpleQueue("peers")
        queue.put({"ring": 1})
        message = queue.get(timeout=10)
        assert message.payload == {"ring": 1}
        message.ack()
        queue.close()


def test_rabbitmq_keeps_durable_messages_over_a_kill() -> None:
    """A node that was killed comes back on the same port with its data, which is what a retry test needs."""
    with brokers.rabbitmq() as broker:
        with Connection(broker.url, transport_options={"confirm_publish": True}) as connection:
            connection.SimpleQueue("kept").put("still here")
        broker.server.kill()
        broker.server.start()
        with Connection(broker.url) as connection:
            assert connection.SimpleQueue("kept").get(timeout=10).payload == "still here"


def test_each_test_has_a_database_of_its_own(postgresql_url: str) -> None:
    """The database is PostgreSQL, is empty, and takes a table."""
    engine = sqlalchemy.create_engine(postgresql_url)
    with engine.begin() as connection:
        assert "PostgreSQL" in connection.execute(sqlalchemy.text("SELECT version()")).scalar_one()
        assert sqlalchemy.inspect(connection).get_table_names() == []
        connection.execute(sqlalchemy.text("CREATE TABLE proof (id integer)"))
    engine.dispose()


def test_peers_die_with_a_killed_test_run() -> None:
    """When the test run itself is killed, the kernel takes its servers with it."""
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from tests.peers import dcmtk\n"
            "with dcmtk.storescp() as peer: print(peer.port, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout is not None
    port = int(holder.stdout.readline())
    assert listening(port)
    holder.kill()
    holder.communicate()
    wait_until(lambda: not listening(port), "storescp to die with its parent")


def test_a_missing_program_is_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """CI cannot turn green by leaving a peer out; only a desk that asks for it may skip."""
    monkeypatch.setenv("BTT_SKIP_PEERS", "1")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="not installed"):
        program("no-such-peer")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        program("no-such-peer")
    monkeypatch.delenv("BTT_SKIP_PEERS")
    with pytest.raises(pytest.fail.Exception):
        program("no-such-peer")


def test_real_data_is_where_it_should_be(test_data: Path) -> None:
    """The chest CT that most journeys use has all of its slices."""
    assert len(list((test_data / "ct_chest").glob("*.dcm"))) == 248
    assert os.access(test_data, os.R_OK)
