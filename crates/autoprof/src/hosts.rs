//! Which hosts are meant, and which groups each is in: from flags, files of hosts and job.
use std::collections::BTreeSet;

use autoprof_core::{
    Host,
    groups::Members,
    host,
    inventory::Inventory,
    job::{HostKeys, JobFile, JobHost},
};

use crate::{cli::Reach, exit::Failure};

/// Groups that an inventory has of itself: to say that a host is in them says nothing.
const OF_EVERY_INVENTORY: [&str; 2] = ["all", "ungrouped"];

/// The hosts that were asked for, each with its groups; none is there twice.
pub fn hosts(reach: &Reach, job: &JobFile) -> Result<Vec<JobHost>, Failure> {
    let named = |host: Host| JobHost { host, own_profilers: None };
    let mut hosts: Vec<JobHost> = Vec::new();
    for list in &reach.hosts {
        for name in host::expand(list)? {
            hosts.push(named(name.parse()?));
        }
    }
    if !reach.group.is_empty() && !reach.hosts.is_empty() && reach.hosts_file.is_empty() {
        return Err(Failure::with_hint(
            "-g chooses among hosts of a file or of a job, and -w names other ones",
            "leave one of the two out, or name the file with -H",
        ));
    }
    let (of_files, mut members) = files(reach)?;
    for (group, names) in job.members()? {
        members.entry(group).or_default().extend(names);
    }
    // What is named by itself is meant, whatever group it is in.
    let mut of_lists: Vec<JobHost> = of_files.into_iter().map(named).collect();
    let on_command_line = !reach.hosts.is_empty() || !reach.hosts_file.is_empty();
    if !on_command_line {
        of_lists = job.all_hosts()?;
    }
    hosts.extend(in_groups(of_lists, &reach.group, &members)?);
    if hosts.is_empty() && !on_command_line && reach.group.is_empty() {
        hosts.push(named(Host::local()));
    }
    let mut excluded = BTreeSet::new();
    for list in &reach.exclude {
        for name in host::expand(list)? {
            excluded.insert(name.parse::<Host>()?.name);
        }
    }
    hosts.retain(|h| !excluded.contains(&h.host.name));
    if hosts.is_empty() {
        let hint = match reach.exclude.is_empty() && reach.group.is_empty() {
            true => "the file of hosts names none",
            false => "-x and -g take away all that were named",
        };
        return Err(Failure::with_hint("no host is left", hint));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = hosts.iter().find(|host| !seen.insert(host.host.name.as_str())) {
        let hint = "name it once; two ways to reach one host are two maps in a job file, each with its `name`";
        return Err(Failure::with_hint(format!("host {} is given twice", twice.host.name), hint));
    }
    if let Some(group) = job.groups.keys().find(|group| !members.contains_key(*group)) {
        return Err(Failure::with_hint(
            format!("no host is said to be in the job's group {group:?}"),
            "give the group `hosts`, or name a file with -H in which hosts are in it",
        ));
    }
    for known in &mut hosts {
        let of = members.iter().filter(|(_, names)| names.contains(&known.host.name)).map(|(group, _)| group);
        let said = |group: &String| job.groups.contains_key(group) || !OF_EVERY_INVENTORY.contains(&group.as_str());
        known.host.groups = of.filter(|group| said(group)).cloned().collect();
        ssh_options(&mut known.host, reach, job);
    }
    Ok(hosts)
}

/// The hosts of the files that were named, once each, and which groups have which.
fn files(reach: &Reach) -> Result<(Vec<Host>, Members), Failure> {
    let (mut hosts, mut members): (Vec<Host>, Members) = Default::default();
    for path in &reach.hosts_file {
        let hint = "a file of hosts has one a line, HOST or HOST,LABEL, or is an inventory of Ansible's";
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|e| Failure::with_hint(format!("cannot read {path}: {e}"), hint))?;
        let read = Inventory::read(&text).map_err(|e| Failure::with_hint(format!("{path}: {e}"), hint))?;
        hosts.extend(read.hosts);
        for (group, names) in read.groups {
            members.entry(group).or_default().extend(names);
        }
    }
    Ok((hosts, members))
}

/// Of some hosts those that are in one of the groups; without groups all.
fn in_groups(hosts: Vec<JobHost>, groups: &[String], members: &Members) -> Result<Vec<JobHost>, Failure> {
    if groups.is_empty() {
        return Ok(hosts);
    }
    let mut wanted: BTreeSet<&String> = BTreeSet::new();
    for group in groups {
        let names = members.get(group).ok_or_else(|| no_group(group, members))?;
        wanted.extend(names);
    }
    Ok(hosts.into_iter().filter(|known| wanted.contains(&known.host.name)).collect())
}

fn no_group(group: &str, members: &Members) -> Failure {
    let known = members.keys().cloned().collect::<Vec<_>>().join(", ");
    let hint = match known.is_empty() {
        true => "groups are those of an inventory, labels of a file of hosts (-H), and `groups` of a job file".into(),
        false => format!("there are {known}"),
    };
    Failure::with_hint(format!("no group {group:?} in the hosts files or the job"), hint)
}

/// The transport of hosts that name none.
const SSH: &str = "ssh";

/// Whether a host's transport has the settings of SSH.
pub fn takes_ssh_options(host: &Host) -> bool {
    [SSH, "openssh"].contains(&host.transport.as_str())
}

/// Hands the settings of SSH to the transport, where the host does not have its own.
fn ssh_options(host: &mut Host, reach: &Reach, job: &JobFile) {
    if host.transport == SSH
        && let Some(transport) = reach.transport.as_ref().or(job.ssh.transport.as_ref())
    {
        host.transport.clone_from(transport);
    }
    if !takes_ssh_options(host) {
        return;
    }
    let config = reach.ssh_config.as_ref().map(ToString::to_string).or_else(|| job.ssh.config.clone());
    let keys = match (reach.insecure_host_keys, reach.accept_new_host_keys) {
        (true, _) => Some(HostKeys::Insecure),
        (_, true) => Some(HostKeys::AcceptNew),
        _ => job.ssh.host_keys,
    };
    let keys = keys.map(|k| k.word().to_owned());
    for (name, value) in [("ssh_config", config), ("host_keys", keys)] {
        if let Some(value) = value {
            host.options.entry(name.to_owned()).or_insert(value);
        }
    }
}
