//! Which hosts are meant, and which groups each is in: from flags, files of hosts and job.
use std::collections::{BTreeMap, BTreeSet};

use autoprof_core::{
    Host,
    groups::Members,
    host::{self, BadHost},
    inventory::{BadInventory, Inventory},
    job::{HostKeys, JobFile, JobHost},
    text::nearest,
};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{cli::Reach, exit::Failure, screen};

/// Groups that an inventory has of itself: to say that a host is in them says nothing.
const OF_EVERY_INVENTORY: [&str; 2] = ["all", "ungrouped"];

/// The variable that names a file of hosts for when no host is named, as pdsh has it.
const WCOLL: &str = "WCOLL";

/// The hosts that were asked for, each with its groups; none is there twice.
pub fn hosts(reach: &Reach, job: &JobFile) -> Result<Vec<JobHost>, Failure> {
    let mut known = Known::default();
    let mut of_files = Vec::new();
    for path in &reach.hosts_file {
        of_files.extend(known.read(path)?);
    }
    for (group, names) in job.members()? {
        known.members.entry(group).or_default().extend(names);
    }
    let of_job = job.all_hosts()?;
    known.hosts.extend(of_job.iter().cloned());
    let chosen_by_group = !reach.group.is_empty() || items(&reach.hosts)?.iter().any(|item| item.starts_with('@'));
    if !reach.group.is_empty() && !reach.hosts.is_empty() && reach.hosts_file.is_empty() {
        return Err(Failure::with_hint(
            "-g chooses among hosts of a file or of a job, and -w names other ones",
            "leave one of the two out, or name the file with -H",
        ));
    }
    // What is named by itself is meant, whatever group it is in.
    let mut hosts = Vec::new();
    for list in &reach.hosts {
        let of_list = known.list(list)?;
        if of_list.is_empty() {
            let message = format!("-w {list:?} names no host");
            return Err(Failure::with_hint(
                message,
                "name hosts, such as -w web[01-03], or leave -w out for this machine",
            ));
        }
        hosts.extend(of_list);
    }
    let on_list = hosts.len();
    let on_command_line = !reach.hosts.is_empty() || !reach.hosts_file.is_empty();
    let wcoll = std::env::var(WCOLL).ok().filter(|path| !path.is_empty()).map(Utf8PathBuf::from);
    let of_lists = match wcoll {
        _ if on_command_line && chosen_by_group && reach.group.is_empty() => Vec::new(),
        _ if on_command_line => of_files,
        Some(path) if of_job.is_empty() => {
            screen::line(&format!("no host is named: taking those of {path} ({WCOLL})"));
            known.read(&path)?
        }
        _ => of_job,
    };
    let named_nobody = of_lists.is_empty() && hosts.is_empty();
    hosts.extend(in_groups(of_lists, &reach.group, &known.members)?);
    let ssh = crate::ssh::SshOptions::of(&reach.ssh)?;
    for (at, known) in hosts.iter_mut().enumerate() {
        ssh.apply(&mut known.host, at < on_list);
    }
    if hosts.is_empty() && named_nobody && !on_command_line && reach.group.is_empty() {
        hosts.push(named(Host::local()));
    }
    let mut excluded = BTreeSet::new();
    for list in &reach.exclude {
        excluded.extend(known.list(list)?.into_iter().map(|known| known.host.name));
    }
    let strangers: Vec<&str> =
        excluded.iter().map(String::as_str).filter(|name| !hosts.iter().any(|h| h.host.name == *name)).collect();
    if let Some(first) = strangers.first() {
        screen::line(&format!("-x leaves out {first}, which is none of the hosts that are named"));
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
    let members = &known.members;
    if let Some(group) = job.groups.keys().find(|group| !members.contains_key(*group)) {
        return Err(Failure::with_hint(
            format!("no host is said to be in the job's group {group:?}"),
            "give the group `hosts`, or name a file with -H in which hosts are in it",
        ));
    }
    known.check(&hosts)?;
    for known in &mut hosts {
        let of = members.iter().filter(|(_, names)| names.contains(&known.host.name)).map(|(group, _)| group);
        let said = |group: &String| job.groups.contains_key(group) || !OF_EVERY_INVENTORY.contains(&group.as_str());
        known.host.groups = of.filter(|group| said(group)).cloned().collect();
        of_job(&mut known.host, reach, job);
    }
    Ok(hosts)
}

fn named(host: Host) -> JobHost {
    JobHost { host, own_profilers: None }
}

/// Hosts and groups of the files and the job that were named, and what is wrong with some of them.
#[derive(Default)]
struct Known {
    hosts: Vec<JobHost>,
    members: Members,
    unusable: BTreeMap<String, BadInventory>,
    not_honored: BTreeMap<String, Vec<&'static str>>,
}

impl Known {
    /// Reads a file of hosts.
    fn read(&mut self, path: &Utf8Path) -> Result<Vec<JobHost>, Failure> {
        let read = Inventory::load(path)?;
        read.warnings.iter().for_each(|warning| screen::line(warning));
        for (group, names) in read.groups {
            self.members.entry(group).or_default().extend(names);
        }
        self.unusable.extend(read.unusable);
        self.not_honored.extend(read.not_honored);
        let hosts: Vec<JobHost> = read.hosts.into_iter().map(named).collect();
        self.hosts.extend(hosts.iter().cloned());
        Ok(hosts)
    }

    /// The hosts of a list as it is written after `-w`: names with ranges, `@GROUP`, `^FILE`, and what is taken away
    /// again, `HOSTS!HOSTS` and `-HOSTS`.
    fn list(&mut self, list: &str) -> Result<Vec<JobHost>, Failure> {
        let mut hosts: Vec<JobHost> = Vec::new();
        let mut excluded = BTreeSet::new();
        for item in items(std::slice::from_ref(&list))? {
            let (first, but) = match item.strip_prefix('-') {
                Some(but) => ("", vec![but]),
                None => {
                    let mut parts = item.split('!');
                    (parts.next().unwrap_or_default(), parts.collect())
                }
            };
            if !first.is_empty() {
                hosts.extend(self.item(first)?);
            }
            for but in but {
                excluded.extend(self.item(but)?.into_iter().map(|known| known.host.name));
            }
        }
        hosts.retain(|known| !excluded.contains(&known.host.name));
        Ok(hosts)
    }

    fn item(&mut self, item: &str) -> Result<Vec<JobHost>, Failure> {
        if let Some(path) = item.strip_prefix('^') {
            return self.read(Utf8Path::new(path));
        }
        if let Some(group) = item.strip_prefix('@') {
            let names = self.members.get(group).ok_or_else(|| no_group(group, &self.members))?;
            let mut seen = BTreeSet::new();
            let of_group = self.hosts.iter().filter(|known| names.contains(&known.host.name));
            return Ok(of_group.filter(|known| seen.insert(&known.host.name)).cloned().collect());
        }
        host::expand(item)?.iter().map(|name| Ok(named(name.parse()?))).collect()
    }

    /// Refuses a host that cannot be reached as its inventory says, and says which of its variables are not honored.
    fn check(&self, hosts: &[JobHost]) -> Result<(), Failure> {
        for known in hosts {
            if let Some(why) = self.unusable.get(&known.host.name) {
                return Err(why.clone().into());
            }
        }
        let mut of_variable: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for known in hosts {
            for variable in self.not_honored.get(&known.host.name).into_iter().flatten() {
                of_variable.entry(variable).or_default().push(&known.host.name);
            }
        }
        for (variable, names) in of_variable {
            let more = match names.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            screen::line(&format!(
                "{}{more}: {variable} is not honored; put such settings into ~/.ssh/config",
                names[0]
            ));
        }
        Ok(())
    }
}

/// What is between commas outside brackets.
fn items<T: AsRef<str>>(lists: &[T]) -> Result<Vec<&str>, BadHost> {
    let mut all = Vec::new();
    for list in lists {
        let items = host::items(list.as_ref())?;
        all.extend(items.into_iter().map(str::trim).filter(|item| !item.is_empty()));
    }
    Ok(all)
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
        false => match nearest(group, members.keys().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}? there are {known}"),
            None => format!("there are {known}"),
        },
    };
    Failure::with_hint(format!("no group {group:?} in the hosts files or the job"), hint)
}

/// The transport of hosts that name none.
const SSH: &str = "ssh";

/// Hands the job's settings of SSH to the transport, where the host does not have its own.
fn of_job(host: &mut Host, reach: &Reach, job: &JobFile) {
    if host.transport == SSH
        && let Some(transport) = reach.transport.as_ref().or(job.ssh.transport.as_ref())
    {
        host.transport.clone_from(transport);
    }
    if !crate::ssh::reaches(&host.transport) {
        return;
    }
    let keys = match (reach.insecure_host_keys, reach.accept_new_host_keys) {
        (true, _) => Some(HostKeys::Insecure),
        (_, true) => Some(HostKeys::AcceptNew),
        _ => job.ssh.host_keys,
    };
    let keys = keys.map(|k| k.word().to_owned());
    for (name, value) in [("ssh_config", job.ssh.config.clone()), ("host_keys", keys)] {
        if let Some(value) = value {
            host.options.entry(name.to_owned()).or_insert(value);
        }
    }
    // Of two values the first one counts, so that the host's own come before the job's.
    crate::ssh::add_lines(host, job.ssh.options.iter().map(|(key, value)| format!("{key}={value}")), false);
}
