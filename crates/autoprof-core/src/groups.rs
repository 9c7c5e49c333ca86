//! Groups of a job: which hosts are in which, and which profilers they have by that.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::{
    args::ProfilerSpec,
    host::{BadHost, Host, MAX_EXPANSION},
    job::{HostEntry, JobFile, JobHost, ProfilerEntry, bounded, list_or_text, profilers},
};

/// Names of hosts by the group that they are in.
pub type Members = BTreeMap<String, BTreeSet<String>>;

/// A group of a job file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupSettings {
    /// Hosts in it, which are the job's by that; without the key: those that an inventory has in the group.
    #[serde(deserialize_with = "bounded")]
    #[schemars(schema_with = "list_or_text::<HostEntry>")]
    pub hosts: Vec<HostEntry>,
    /// Profilers of its hosts, instead of the job's.
    #[serde(deserialize_with = "profilers")]
    #[schemars(schema_with = "list_or_text::<ProfilerEntry>")]
    pub profilers: Vec<ProfilerEntry>,
    /// Profilers of its hosts, in addition to those that they have anyway.
    #[serde(deserialize_with = "profilers")]
    #[schemars(schema_with = "list_or_text::<ProfilerEntry>")]
    pub also: Vec<ProfilerEntry>,
}

/// Two groups of one host that ask for different things.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("host {host}: its groups {first} and {second} give {profiler} different arguments")]
pub struct Disagreement {
    /// The host.
    pub host: String,
    /// The profiler.
    pub profiler: String,
    /// A group of the host.
    pub first: String,
    /// Another one.
    pub second: String,
}

/// Whether a text can be a group's name: it is shown, and written after `-g`.
#[must_use]
pub fn is_group_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c))
}

impl JobFile {
    /// The hosts that the job names, by themselves or in a group; one that is named again by a group is the same host.
    ///
    /// # Errors
    /// When a name cannot be read.
    pub fn all_hosts(&self) -> Result<Vec<JobHost>, BadHost> {
        let mut hosts: Vec<JobHost> = Vec::new();
        for entry in &self.hosts {
            hosts.extend(entry.hosts()?);
        }
        let mut users: BTreeMap<String, Option<String>> =
            hosts.iter().map(|known| (known.host.name.clone(), known.host.user.clone())).collect();
        for entry in self.groups.values().flat_map(|group| &group.hosts) {
            let by_name = matches!(entry, HostEntry::Text(_));
            for new in entry.hosts()? {
                let same = |user: &Option<String>| by_name && (new.host.user.is_none() || new.host.user == *user);
                // What says something else of a host that is there is left for whoever looks for hosts given twice.
                if !users.get(&new.host.name).is_some_and(same) {
                    users.entry(new.host.name.clone()).or_insert_with(|| new.host.user.clone());
                    hosts.push(new);
                }
            }
        }
        Ok(hosts)
    }

    /// Which hosts the job's groups have, as far as it says so itself.
    ///
    /// # Errors
    /// When a name cannot be read.
    pub fn members(&self) -> Result<Members, BadHost> {
        let mut members = Members::new();
        for (name, group) in self.groups.iter().filter(|(_, group)| !group.hosts.is_empty()) {
            let of_group = members.entry(name.clone()).or_default();
            for entry in &group.hosts {
                of_group.extend(entry.hosts()?.into_iter().map(|known| known.host.name));
            }
        }
        Ok(members)
    }

    /// The profilers of a host, where it has others than `everywhere`: its own, else its groups', else those of every
    /// host; and what its groups have in addition. What a group says of a profiler counts before what is said for all.
    ///
    /// # Errors
    /// When two groups of the host give a profiler different arguments.
    pub fn profilers_of(
        &self,
        host: &JobHost,
        everywhere: &[ProfilerSpec],
    ) -> Result<Option<Vec<ProfilerSpec>>, Disagreement> {
        let groups = || self.groups.iter().filter(|(name, _)| host.host.groups.contains(*name));
        let instead = merged(&host.host, groups().map(|(name, group)| (name, &group.profilers)))?;
        let also = merged(&host.host, groups().map(|(name, group)| (name, &group.also)))?;
        let base = match (&host.own_profilers, instead.is_empty()) {
            (Some(own), _) => own.clone(),
            (None, false) => instead,
            (None, true) if also.is_empty() => return Ok(None),
            (None, true) => everywhere.to_vec(),
        };
        let kept = base.into_iter().filter(|spec| !also.iter().any(|other| other.name == spec.name));
        Ok(Some(kept.chain(also.iter().cloned()).collect()))
    }
}

/// What several groups ask for on one host; the same thing may be asked for by each.
fn merged<'a>(
    host: &Host,
    lists: impl Iterator<Item = (&'a String, &'a Vec<ProfilerEntry>)>,
) -> Result<Vec<ProfilerSpec>, Disagreement> {
    let mut all: Vec<(&String, &ProfilerSpec)> = Vec::new();
    for (group, list) in lists {
        for ProfilerEntry(spec) in list {
            match all.iter().find(|(other, there)| *other != group && there.name == spec.name) {
                None => all.push((group, spec)),
                Some((_, there)) if *there == spec => {}
                Some((other, _)) => {
                    return Err(Disagreement {
                        host: host.name.clone(),
                        profiler: spec.name.clone(),
                        first: (*other).clone(),
                        second: group.clone(),
                    });
                }
            }
        }
    }
    Ok(all.into_iter().map(|(_, spec)| spec.clone()).collect())
}

/// Groups with names that can be shown, and with no more hosts in all than there can be.
pub(crate) fn groups<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, GroupSettings>, D::Error> {
    struct GroupsVisitor;
    impl<'de> Visitor<'de> for GroupsVisitor {
        type Value = BTreeMap<String, GroupSettings>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of groups")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut groups, mut hosts) = (BTreeMap::new(), 0);
            while let Some(name) = map.next_key::<String>()? {
                if !is_group_name(&name) {
                    return Err(A::Error::custom(format!(
                        "{name:?} cannot be a group's name: write letters, digits, _, - and ."
                    )));
                }
                let group: GroupSettings = map.next_value()?;
                for entry in &group.hosts {
                    hosts += entry.hosts().map_err(A::Error::custom)?.len();
                }
                if hosts > MAX_EXPANSION {
                    return Err(A::Error::custom(format!("more than {MAX_EXPANSION} hosts")));
                }
                if groups.insert(name.clone(), group).is_some() {
                    return Err(A::Error::custom(format!("group {name:?} is there twice")));
                }
            }
            Ok(groups)
        }
    }
    d.deserialize_map(GroupsVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "
hosts: [web, {name: own, profilers: [sar]}]
profilers: [default, 'vmstat:2']
groups:
  db: {hosts: ['db[1-2]', own], also: [perf, 'vmstat:5']}
  big: {hosts: [db2], profilers: [mpstat]}
  idle: {profilers: [proc]}
";

    /// The hosts of a job, each with its groups, as they are where nothing but the job names hosts.
    fn hosts(job: &JobFile) -> Vec<JobHost> {
        let members = job.members().unwrap();
        let mut hosts = job.all_hosts().unwrap();
        for known in &mut hosts {
            let of = members.iter().filter(|(_, names)| names.contains(&known.host.name));
            known.host.groups = of.map(|(group, _)| group.clone()).collect();
        }
        hosts
    }

    fn profilers(job: &str, host: &str) -> Result<Option<Vec<String>>, Disagreement> {
        let job = JobFile::parse(job).unwrap();
        let everywhere: Vec<_> = job.profilers.iter().map(|p| p.0.clone()).collect();
        let known = hosts(&job).into_iter().find(|known| known.host.name == host).unwrap();
        Ok(job.profilers_of(&known, &everywhere)?.map(|list| list.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn hosts_of_groups_are_hosts_of_the_job_once() {
        let job = JobFile::parse(JOB).unwrap();
        let names = |job: &JobFile| job.all_hosts().unwrap().into_iter().map(|h| h.host.name).collect::<Vec<_>>();
        assert_eq!(names(&job), ["web", "own", "db2", "db1"]);
        assert_eq!(hosts(&job)[2].host.groups, ["big", "db"].map(str::to_owned).into());
        assert_eq!(job.members().unwrap().keys().collect::<Vec<_>>(), ["big", "db"], "idle has none of its own");
        let again = JobFile::parse("hosts: [a@h]\ngroups: {g: {hosts: [h]}, k: {hosts: [a@h]}}").unwrap();
        assert_eq!(names(&again), ["h"]);
        let other = JobFile::parse("hosts: [a@h]\ngroups: {g: {hosts: [b@h]}}").unwrap();
        assert_eq!(names(&other), ["h", "h"], "another user's is another host of that name");
    }

    #[test]
    fn a_host_has_its_groups_profilers() {
        assert_eq!(profilers(JOB, "web").unwrap(), None);
        assert_eq!(profilers(JOB, "db1").unwrap().unwrap(), ["default", "perf", "vmstat:5"]);
        assert_eq!(profilers(JOB, "db2").unwrap().unwrap(), ["mpstat", "perf", "vmstat:5"]);
        assert_eq!(profilers(JOB, "own").unwrap().unwrap(), ["sar", "perf", "vmstat:5"]);
    }

    #[test]
    fn groups_may_agree_but_not_disagree() {
        let of = |a: &str, b: &str| {
            let groups = format!("groups: {{a: {{hosts: [h], also: [{a}]}}, b: {{hosts: [h], also: [{b}]}}}}");
            profilers(&format!("profilers: [light]\n{groups}"), "h")
        };
        assert_eq!(of("'vmstat:5'", "'vmstat:5'").unwrap().unwrap(), ["light", "vmstat:5"]);
        let said = of("'vmstat:5'", "'vmstat:2'").unwrap_err().to_string();
        assert_eq!(said, "host h: its groups a and b give vmstat different arguments");
    }

    #[test]
    fn what_is_no_group_is_refused_with_its_place() {
        let error = |text: &str| JobFile::parse(text).unwrap_err().to_string();
        assert!(error("groups: {a b: {}}").contains("\"a b\" cannot be a group's name"));
        assert!(error("groups:\n  a: {hosts: []}\n").contains("the list is empty"));
        assert!(error("groups:\n  a: {profiler: [x]}\n").contains("unknown field `profiler`"));
        assert!(error("groups: {a: {hosts: ['a[1-60000]']}, b: {hosts: ['b[1-60000]']}}").contains("more than 100000"));
    }
}
