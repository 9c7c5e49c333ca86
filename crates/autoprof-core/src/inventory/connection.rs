//! How a host is reached, by Ansible's variables for it.
//!
//! Source: the options of ansible/plugins/connection/ssh.py.
use super::{
    error::Problem,
    vars::{Place, Value, Vars},
};
use crate::host::{BadHost, Host, LOCAL, check_name};

/// Connections that are SSH.
const SSH: [&str; 8] = [
    "ssh",
    "smart",
    "paramiko",
    "paramiko_ssh",
    "ansible.builtin.ssh",
    "ansible.builtin.paramiko_ssh",
    "ansible.netcommon.libssh",
    "libssh",
];
/// Variables that are not honored.
const ARGUMENTS: [&str; 3] = ["ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args"];

/// A host as it is reached, and variables of it that are not honored.
pub(super) fn host(name: &str, vars: &Vars, place: Place) -> Result<(Host, Vec<&'static str>), (Place, Problem)> {
    check_name(name).map_err(|reason| (place, BadHost { text: name.to_owned(), reason }.into()))?;
    let text = |names: [&'static str; 2]| -> Result<Option<(String, Place)>, (Place, Problem)> {
        let Some((variable, value, place)) = vars.last(names) else { return Ok(None) };
        let bad = |what| (place, Problem::Value { host: name.to_owned(), variable, what });
        Ok(value.text().map_err(bad)?.map(|text| (text, place)))
    };
    let mut host = Host::named(name);
    let connection = text(["ansible_connection"; 2])?;
    match connection {
        Some((word, _)) if ["local", "ansible.builtin.local"].contains(&word.as_str()) => {
            host.transport = LOCAL.to_owned();
            return Ok((host, Vec::new()));
        }
        Some((word, place)) if !SSH.contains(&word.as_str()) => {
            return Err((place, Problem::Connection { host: name.to_owned(), connection: word }));
        }
        Some(_) => {}
        None if name == LOCAL => {
            host.transport = LOCAL.to_owned();
            return Ok((host, Vec::new()));
        }
        None => {}
    }
    match text(["ansible_host", "ansible_ssh_host"])? {
        Some((address, place)) => {
            let bad = |reason| (place, Problem::Address { host: name.to_owned(), value: address.clone(), reason });
            check_name(&address).map_err(bad)?;
            host.address = Some(address).filter(|address| address != name);
        }
        // `ssh` itself would split it.
        None => {
            if let Some((user, address)) =
                name.rsplit_once('@').filter(|(user, address)| !user.is_empty() && !address.is_empty())
            {
                host.user = Some(user.to_owned());
                host.address = Some(address.to_owned());
            }
        }
    }
    if let Some((user, _)) = text(["ansible_user", "ansible_ssh_user"])? {
        host.user = Some(user);
    }
    let key = text(["ansible_private_key_file", "ansible_ssh_private_key_file"])?;
    host.identity_file = key.map(|(path, _)| path.into());
    if let Some((port, place)) = text(["ansible_port", "ansible_ssh_port"])? {
        let whole = port.trim().strip_suffix(".0").unwrap_or(port.trim());
        let number = whole.parse().ok().filter(|number| *number > 0);
        host.port = Some(number.ok_or_else(|| (place, Problem::Port { host: name.to_owned(), value: port }))?);
    }
    let is_said = |variable: &&'static str| {
        vars.last([*variable; 2]).is_some_and(|(_, value, _)| *value != Value::Text(String::new()))
    };
    Ok((host, ARGUMENTS.into_iter().filter(is_said).collect()))
}
