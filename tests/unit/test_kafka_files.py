from __future__ import annotations

import re
from pathlib import Path

from deploy.jar_download import maven_project
from deploy.jars import Jar, cache_folder, locked_jars
from deploy.kafka import properties
from service.settings import EmbeddedSettings


def test_lock_names_every_jar_once_with_its_checksum_and_size() -> None:
    jars = locked_jars()
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars) == 46
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) and jar.size > 0 for jar in jars)
    # The bridge without which the broker logs nothing.
    assert "log4j-slf4j-impl" in {jar.artifact for jar in jars}


def test_jar_knows_its_place_in_a_maven_repository() -> None:
    jar = Jar("org.apache.kafka", "kafka_2.13", "4.3.1", "", 1)
    assert jar.path == "org/apache/kafka/kafka_2.13/4.3.1/kafka_2.13-4.3.1.jar"


def test_cache_folder_follows_the_setting_then_the_environment_then_the_home() -> None:
    own = EmbeddedSettings(cache=Path("/own"))
    environment = {"XDG_CACHE_HOME": "/xdg"}
    assert cache_folder(own, environment) == Path("/own/kafka-4.3.1")
    assert cache_folder(EmbeddedSettings(), environment) == Path("/xdg/anabranch/kafka-4.3.1")
    assert cache_folder(EmbeddedSettings(), {}) == Path.home() / ".cache/anabranch/kafka-4.3.1"


def test_maven_project_asks_for_the_jar_without_what_it_needs() -> None:
    project = maven_project([Jar("org.made.up", "a&b", "1", "", 1)])
    assert "<artifactId>a&amp;b</artifactId>" in project
    assert "<exclusion><groupId>*</groupId>" in project


def test_broker_listens_on_loopback_alone_and_makes_no_topic_by_itself() -> None:
    said = properties(host="127.0.0.1", port=1, controller_port=2)
    assert said["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert said["auto.create.topics.enable"] == "false"
