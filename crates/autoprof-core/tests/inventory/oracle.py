"""Prints what Ansible makes of inventories: a path a line in, a JSON object a line out.

ansible-inventory takes half a second to start, so its own classes are used here, in one process. A warning that
something is skipped counts as an error, as it does in autoprof.
"""
import json
import os
import sys

os.environ["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "true"
os.environ["ANSIBLE_LOCALHOST_WARNING"] = "false"
os.environ["ANSIBLE_DEPRECATION_WARNINGS"] = "false"

from ansible import constants  # noqa: E402
from ansible.inventory.manager import InventoryManager  # noqa: E402
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.plugins.loader import connection_loader  # noqa: E402
from ansible.utils.display import Display  # noqa: E402
from ansible.vars.manager import VariableManager  # noqa: E402

warnings = []
Display.warning = lambda self, msg, *args, **kwargs: warnings.append(str(msg))
Display.deprecated = lambda self, *args, **kwargs: None
Display.error = lambda self, *args, **kwargs: None
Display.error_as_warning = lambda self, *args, **kwargs: None
connection_loader.get("ssh", class_only=True)


def option(name, variables):
    """An option of the ssh connection as text, or {"odd": ...} for what is no text."""
    known = ("ansible_host", "ansible_ssh_host", "ansible_user", "ansible_ssh_user", "ansible_port", "ansible_ssh_port",
             "ansible_private_key_file", "ansible_ssh_private_key_file")
    given = {key: variables[key] for key in known if key in variables}
    value = None
    for entry in constants.config.get_configuration_definitions("connection", "ssh")[name]["vars"]:
        if given.get(entry["name"]) is not None:
            value = given[entry["name"]]
    if value is not None and (not isinstance(value, (str, int, float)) or "{{" in str(value)):
        return {"odd": type(value).__name__}
    if value in ("", None):
        return None
    if name == "port":
        try:
            return str(constants.config.get_config_value(name, plugin_type="connection", plugin_name="ssh", variables=given))
        except Exception as error:
            return {"odd": str(error)}
    return str(constants.config.get_config_value(name, plugin_type="connection", plugin_name="ssh", variables=given))


def read(path):
    del warnings[:]
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[path])
    skipped = [text for text in warnings if "kipping" in text or "Unable to parse" in text]
    if skipped:
        raise ValueError(skipped[0])
    variables = VariableManager(loader=loader, inventory=inventory)
    hosts = {}
    for host in inventory.get_hosts():
        of_host = variables.get_vars(host=host, include_hostvars=False, stage="all")
        connection = of_host.get("ansible_connection")
        hosts[host.name] = {
            "host": option("host", of_host),
            "port": option("port", of_host),
            "user": option("remote_user", of_host),
            "key": option("private_key_file", of_host),
            "connection": connection if isinstance(connection, (str, type(None))) else {"odd": "connection"},
        }
    groups = {name: sorted(members) for name, members in inventory.get_groups_dict().items()}
    return {"hosts": hosts, "groups": groups}


for line in sys.stdin:
    try:
        answer = read(line.strip())
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
