"""The Dockerfile, the compose file, the manifests, units and the proxy's configuration agree with the programs.

They are read and compared here, and started in tests/acceptance/test_deployments.py; systemd's and nginx's own word on
them is asked for in tests/integration/test_deploy_lint.py.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import Any

import msgspec
import pytest
import yaml
from compose_spec import PyCompose

from agentkit import Agent, AgentKit, ScriptedModel, __version__
from agentkit.core.metrics import METRICS
from agentkit.settings import Settings
from agentkit.web import create_app
from tests.deployments import (
    DEPLOY,
    DOCKERFILE,
    ROLES,
    ROOT,
    build_context,
    commands,
    compose,
    container,
    dockerfile,
    env_file,
    manifests,
    unit,
)

FIELDS = {f"AGENTKIT_{field.name.upper()}" for field in dataclasses.fields(Settings)}
OTHERS = {"FLOWER_BASIC_AUTH", "OPENAI_API_KEY"}
"""Variables of Flower and of a vendor."""
KUBERNETES = DEPLOY / "kubernetes"
SYSTEMD = DEPLOY / "systemd"


def pod(role: str) -> dict[str, Any]:
    (found,) = [
        one["spec"]["template"]["spec"]
        for one in manifests()
        if one["kind"] == "Deployment" and one["metadata"]["name"] == f"agentkit-{role}"
    ]
    return dict(found)


def config_map() -> dict[str, str]:
    (found,) = [one["data"] for one in manifests() if one["kind"] == "ConfigMap"]
    return dict(found)


def literal(values: dict[str, str]) -> dict[str, str]:
    """Of the variables of a compose service, those that the file gives by itself."""
    return {name: value for name, value in values.items() if "${" not in value}


def secrets() -> dict[str, dict[str, str]]:
    return {one["metadata"]["name"]: one["stringData"] for one in manifests() if one["kind"] == "Secret"}


def seconds(text: str | int) -> int:
    match = re.fullmatch(r"(\d+)s?", str(text))
    assert match, text
    return int(match[1])


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


# -- commands


def without_places(words: list[str]) -> list[str]:
    """A command without where it listens and how its node is called."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in ("--bind", "-n") and not word.startswith("--address="):
            kept.append(word)
        skip = word in ("--bind", "-n")
    return kept


@pytest.mark.parametrize("role", ROLES)
def test_every_file_starts_a_role_by_the_same_command(role: str) -> None:
    words = {kind: without_places(roles[role]) for kind, roles in commands().items()}
    assert all(command == words["Procfile"] for command in words.values()), words


def test_flower_listens_on_loopback_or_is_published_there() -> None:
    addresses = {kind: roles["flower"][-1] for kind, roles in commands().items()}
    assert addresses.pop("compose") == "--address=0.0.0.0"
    assert set(addresses.values()) == {"--address=127.0.0.1"}
    assert compose()["services"]["flower"]["ports"] == ["127.0.0.1:5555:5555"]
    assert not [one for one in manifests() if one["kind"] == "Service" and "flower" in one["metadata"]["name"]]


# -- settings


def test_every_variable_is_one_that_something_reads() -> None:
    (environment,) = [rest for word, rest in dockerfile()[-1] if word == "ENV"]
    named = {
        "Dockerfile": set(re.findall(r"\b(AGENTKIT_\w+)=", environment)),
        "config map": set(config_map()),
        **{name: set(values) for name, values in secrets().items()},
        **{path.name: set(env_file(path)) for path in SYSTEMD.glob("*.env.example")},
        **{f"compose {role}": set(compose()["services"][role]["environment"]) for role in ROLES},
    }
    assert len(named) == 12
    for file, names in named.items():
        assert names, file
        assert names <= FIELDS | OTHERS, file


def test_the_values_that_are_written_down_can_be_read() -> None:
    for values in (config_map(), *secrets().values(), *map(env_file, SYSTEMD.glob("*.env.example"))):
        Settings.from_env(values)
    for role in ROLES:
        Settings.from_env(literal(compose()["services"][role]["environment"]))


def test_vendors_keys_are_for_workers_and_no_file_holds_a_secret() -> None:
    given = {
        **{role: {**env_file(SYSTEMD / f"{role}.env.example")} for role in ROLES},
        **{f"kubernetes {role}": secrets()[f"agentkit-{role}"] for role in ROLES},
        **{f"compose {role}": compose()["services"][role]["environment"] for role in ROLES},
    }
    for role, values in given.items():
        assert ("OPENAI_API_KEY" in values) == role.endswith("worker"), role
        assert ("AGENTKIT_SECRET_KEY" in values) == role.endswith("web"), role
        assert ("AGENTKIT_ENCRYPTION_KEYS" in values) != role.endswith("flower"), role
        for name in values.keys() & {"OPENAI_API_KEY", "AGENTKIT_SECRET_KEY", "AGENTKIT_ENCRYPTION_KEYS"}:
            assert not values[name] or values[name].startswith("${"), (role, name)


def test_each_pod_takes_what_is_shared_and_its_own_secret() -> None:
    for role in ROLES:
        assert container(role)["envFrom"] == [
            {"configMapRef": {"name": "agentkit"}},
            {"secretRef": {"name": f"agentkit-{role}"}},
        ]
        files = unit(role)["Service"]["EnvironmentFile"]
        assert files == ["/etc/agentkit/agentkit.env", f"/etc/agentkit/{role}.env"]


def test_the_compose_file_and_its_example_of_variables_name_the_same() -> None:
    example = (DEPLOY / "env.example").read_text()
    named = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert named == set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)) - {"COMPOSE_PROFILES"}
    assert re.search(r"^# COMPOSE_PROFILES=rabbitmq$", example, re.MULTILINE)


# -- times


def test_a_platform_kills_later_than_a_worker_needs_to_stop() -> None:
    shared = {
        "compose": literal(compose()["services"]["worker"]["environment"]),
        "kubernetes": config_map(),
        "systemd": env_file(SYSTEMD / "agentkit.env.example"),
    }
    kills = {
        "compose": seconds(compose()["services"]["worker"]["stop_grace_period"]),
        "kubernetes": pod("worker")["terminationGracePeriodSeconds"],
        "systemd": seconds(unit("worker")["Service"]["TimeoutStopSec"][0]),
    }
    for kind, killed_after in kills.items():
        assert killed_after >= Settings.from_env(shared[kind]).stop_grace_seconds + 30, kind
    assert len(set(kills.values())) == 1


def test_a_platform_kills_later_than_a_web_process_needs_to_stop() -> None:
    graceful = int(option(commands()["Procfile"]["web"], "--graceful-timeout"))
    before = container("web")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod("web")["terminationGracePeriodSeconds"] >= before + graceful + 10
    assert seconds(compose()["services"]["web"]["stop_grace_period"]) >= graceful + 10
    assert seconds(unit("web")["Service"]["TimeoutStopSec"][0]) >= graceful + 10


def test_signals_are_for_the_main_process_alone() -> None:
    assert all(unit(role)["Service"]["KillMode"] == ["mixed"] for role in ROLES)
    assert all(unit(role)["Service"].get("KillSignal", ["SIGTERM"]) == ["SIGTERM"] for role in ROLES)
    assert [rest for word, rest in dockerfile()[-1] if word == "STOPSIGNAL"] == ["SIGTERM"]
    for role in ROLES:
        command = compose()["services"][role].get("command")
        assert command is None or isinstance(command, list), "a text is started by a shell, which keeps signals"


# -- ports and probes


def test_ports_agree() -> None:
    (exposed,) = [rest for word, rest in dockerfile()[-1] if word == "EXPOSE"]
    for kind, roles in commands().items():
        assert re.search(r":(8000|\$\{PORT:-8000\})$", option(roles["web"], "--bind")), kind
    assert exposed == "8000"
    assert container("web")["ports"] == [{"name": "http", "containerPort": 8000}]
    (service,) = [one["spec"] for one in manifests() if one["kind"] == "Service"]
    assert service["ports"] == [{"name": "http", "port": 8000, "targetPort": "http"}]
    assert compose()["services"]["web"]["ports"] == ["127.0.0.1:8000:8000"]
    proxy = (DEPLOY / "nginx" / "agentkit.conf").read_text()
    assert re.findall(r"^\s*server (127\S+);", proxy, re.MULTILINE) == ["127.0.0.1:8000"]
    assert option(commands()["systemd"]["web"], "--bind") == "127.0.0.1:8000"


def asked() -> list[tuple[str, str, str]]:
    """Every path that a probe asks for: by whom, the path, and the Host that it sends."""
    found = []
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container("web")[name]["httpGet"]
        (host,) = [header["value"] for header in get["httpHeaders"] if header["name"] == "Host"]
        assert get["port"] == "http"
        found.append((name, get["path"], host))
    check = compose()["services"]["web"]["healthcheck"]["test"][-1]
    (address,) = re.findall(r"http://(127\.0\.0\.1:8000)(/\w+)", check)
    return [*found, ("compose", address[1], address[0])]


@pytest.mark.parametrize(("name", "path", "host"), asked())
def test_a_probe_asks_for_a_path_that_there_is_by_a_host_that_is_answered(name: str, path: str, host: str) -> None:
    hosts = config_map()["AGENTKIT_HOSTS"]
    if name == "compose":
        hosts = re.findall(r":-(.*)}", compose()["services"]["web"]["environment"]["AGENTKIT_HOSTS"])[0]
        assert env_file(DEPLOY / "env.example")["AGENTKIT_HOSTS"] == hosts
    settings = Settings.from_env({"AGENTKIT_HOSTS": hosts, "AGENTKIT_REDIS_URL": "redis://127.0.0.1:1/0"})
    app = create_app(AgentKit([Agent("a", ScriptedModel(["x"]))], settings=settings))
    assert path in {rule.rule for rule in app.url_map.iter_rules()}
    assert path in ("/healthz", "/readyz")
    response = app.test_client().get("/healthz", headers={"Host": host})
    assert response.status_code == 200, response.text
    refused = app.test_client().get("/healthz", headers={"Host": "elsewhere.example"})
    assert refused.status_code == 400


def test_prometheus_may_scrape_the_service_by_its_name() -> None:
    (service,) = [one["metadata"]["name"] for one in manifests() if one["kind"] == "Service"]
    assert {service, f"{service}.agentkit.svc"} <= set(config_map()["AGENTKIT_HOSTS"].split(","))


# -- the image


def test_the_image_installs_the_pinned_versions_from_files_that_the_build_sees() -> None:
    build, final = dockerfile()
    copied = [word for name, rest in build if name == "COPY" for word in rest.split()[:-1]]
    seen = {path.relative_to(ROOT).parts[0] for path in build_context()}
    assert set(copied) == seen
    (install,) = [rest for word, rest in build if word == "RUN" and "pip install" in rest]
    assert "-c constraints.txt" in install
    extras = set(re.findall(r"\[([\w,]+)]", install)[0].split(","))
    assert {"server", "flower", "gevent", "crypto"} <= extras
    assert [rest for word, rest in final if word == "COPY"] == ["--from=build /opt/agentkit /opt/agentkit"]
    assert "://" not in DOCKERFILE.read_text()


def test_nothing_of_a_developer_reaches_the_build() -> None:
    names = {str(path.relative_to(ROOT)) for path in build_context()}
    assert "agentkit/__init__.py" in names
    assert "agentkit/store/scripts/commit.lua" in names
    assert not [name for name in names if re.search(r"\.env|__pycache__|\.pyc$|^tests|^\.git", name)]


def test_the_image_runs_as_a_user_without_rights() -> None:
    final = dockerfile()[-1]
    (user,) = [rest for word, rest in final if word == "USER"]
    assert user == "10001:10001"
    assert final.index(("USER", user)) > max(i for i, (word, _) in enumerate(final) if word in ("RUN", "COPY"))
    for role in ROLES:
        assert f"{pod(role)['securityContext']['runAsUser']}:{pod(role)['securityContext']['runAsGroup']}" == user


# -- Kubernetes


def test_the_kustomization_has_every_file_but_those_that_are_applied_by_themselves() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secrets.example.yaml"}
    assert set(kustomization["resources"]) == files
    (image,) = kustomization["images"]
    assert image["name"] == "agentkit"
    assert image["newTag"] == __version__
    assert {container(role)["image"] for role in ROLES} == {"agentkit"}


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """An object as lightkube's models, which are made of Kubernetes' own schema, read it: without unknown fields.

    Raises ValidationError for a value of a wrong type and for one that is missing.
    """
    group, _, version = document["apiVersion"].rpartition("/")
    module = importlib.import_module(f"lightkube.models.{group.partition('.')[0] or 'core'}_{version}")
    read = msgspec.to_builtins(msgspec.convert(document, getattr(module, document["kind"])))
    return dict(without_nones(read))


def without_nones(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nones(one) for key, one in value.items() if one is not None}
    return [without_nones(one) for one in value] if isinstance(value, list) else value


def test_the_manifests_are_what_kubernetes_schema_has() -> None:
    objects = [document for document in manifests() if document["kind"] != "ScaledObject"]
    assert len(objects) == 12
    for document in objects:
        assert checked(document) == document


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("replicas: 2", 'replicas: "2"', "Expected `int | null`, got `str`"),
        ('- "2"\n', "- 2\n", "Expected `str`, got `int`"),
        ("containerPort: 8000", "port: 8000", "missing required field `containerPort`"),
    ],
)
def test_a_wrong_value_in_a_manifest_is_noticed(old: str, new: str, problem: str) -> None:
    text = (KUBERNETES / "web.yaml").read_text()
    assert old in text
    with pytest.raises(msgspec.ValidationError, match=re.escape(problem)):
        checked(next(yaml.safe_load_all(text.replace(old, new, 1))))


def test_an_unknown_field_in_a_manifest_is_noticed() -> None:
    text = (KUBERNETES / "web.yaml").read_text()
    deployment = next(yaml.safe_load_all(text.replace("terminationGracePeriodSeconds", "terminationGraceSeconds")))
    assert checked(deployment) != deployment


def test_labels_lead_to_their_pods() -> None:
    pods = {
        role: next(
            one["spec"]["template"]["metadata"]["labels"]
            for one in manifests()
            if one["kind"] == "Deployment" and one["metadata"]["name"] == f"agentkit-{role}"
        )
        for role in ROLES
    }
    selectors = [
        (one["metadata"]["name"], one["spec"]["selector"].get("matchLabels", one["spec"]["selector"]))
        for one in manifests()
        if one["kind"] in ("Deployment", "PodDisruptionBudget", "Service")
    ]
    assert len(selectors) == 6
    for name, selector in selectors:
        assert [role for role, labels in pods.items() if selector.items() <= labels.items()] == [
            name.removeprefix("agentkit-")
        ]


@pytest.mark.parametrize("role", ROLES)
def test_pods_keep_to_the_restricted_standard(role: str) -> None:
    spec, locked = pod(role), container(role)["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert locked == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in container(role)["volumeMounts"]} == {one["name"] for one in spec["volumes"]}
    assert {"requests", "limits"} == set(container(role)["resources"])


def test_workers_are_scaled_by_a_metric_that_there_is_and_by_what_one_does_at_once() -> None:
    keda, hpa = (
        yaml.safe_load((KUBERNETES / "autoscaling" / name).read_text())["spec"] for name in ("keda.yaml", "hpa.yaml")
    )
    (trigger,) = keda["triggers"]
    query = trigger["metadata"]["query"]
    assert set(re.findall(r"agentkit_\w+", query)) <= {metric.shown_name for metric in METRICS}
    comment = re.findall(r"# +metricsQuery: (.*)", (KUBERNETES / "autoscaling" / "hpa.yaml").read_text())
    assert comment == [query]
    threads = int(option(container("worker")["args"], "-c"))
    (metric,) = hpa["metrics"]
    each = metric["external"]["target"]["averageValue"]
    assert trigger["metadata"]["threshold"] == each == str(threads * 3 // 4)
    for target in (keda["scaleTargetRef"], hpa["scaleTargetRef"]):
        assert target["name"] == "agentkit-worker"
    assert keda["minReplicaCount"] == hpa["minReplicas"] == 1
    assert (keda["maxReplicaCount"], keda["cooldownPeriod"]) == (
        hpa["maxReplicas"],
        hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
    )
    (worker,) = [one for one in manifests() if one["kind"] == "Deployment" and "worker" in one["metadata"]["name"]]
    assert "replicas" not in worker["spec"]


# -- compose


def test_the_compose_file_is_what_its_specification_has() -> None:
    text = yaml.safe_dump(compose(), sort_keys=False)  # its merge keys resolved
    PyCompose.from_yaml(text).validate()
    for old, new in (("stop_grace_period", "stop_grace"), ("service_healthy", "healthy"), ("8000:8000", "8x00:8000")):
        assert old in text
        with pytest.raises(ValueError, match=new.partition(":")[0]):
            PyCompose.from_yaml(text.replace(old, new)).validate()


def test_every_service_of_the_compose_file_shows_its_health_and_has_time_to_stop() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        assert seconds(service["stop_grace_period"]) >= 10, name
    for role in ROLES:
        service = services[role]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "container_name" not in service, "--scale needs names of its own for each"
    assert {"--appendonly", "noeviction", "--requirepass"} <= set(services["store"]["command"])
    assert [name for name, service in services.items() if "build" in service] == ["web"]


# -- what is written about it


def test_the_page_names_what_there_is_with_its_times() -> None:
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
    assert set(re.findall(r"\.\./\.\./deploy/(\w+)", page)) >= {
        path.name.partition(".")[0] for path in DEPLOY.iterdir() if path.name != "env.example"
    }
    for path in re.findall(r"\.\./\.\./([\w./-]+)\)|(?<=[ (])(deploy/[\w./-]+\w)", page):
        for name in filter(None, path):
            assert name == "deploy/.env" or (ROOT / name).exists(), name
    rows = {row.split("|")[1].strip(): row for row in page.splitlines() if row.startswith("| w") or "| Flower |" in row}
    services = compose()["services"]
    for role, row in (("web", rows["web"]), ("worker", rows["worker"]), ("flower", rows["Flower"])):
        killed_after = seconds(services[role]["stop_grace_period"])
        assert f"{killed_after} s" in row, role
        assert unit(role)["Service"]["TimeoutStopSec"] == [str(killed_after)]
    assert f"Kubernetes {pod('web')['terminationGracePeriodSeconds']} s" in rows["web"]
    assert f"(here {config_map()['AGENTKIT_STOP_GRACE_SECONDS']})" in rows["worker"]
    (install,) = [rest for word, rest in dockerfile()[0] if word == "RUN" and "pip install" in rest]
    assert re.findall(r"\[[\w,]+]", install)[0] in page
