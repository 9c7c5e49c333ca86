//! The job file: hosts, profilers and a test, as a person writes them.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    args::{self, Args, ProfilerSpec, is_name},
    duration::Span,
    groups::{self, GroupSettings},
    host::{self, Host},
    size::Size,
    text::nearest,
    yaml::{self, Content, Node},
};

/// Sets of profilers that have a name.
pub const PRESETS: [(&str, &[&str]); 3] = [
    ("light", &["proc"]),
    ("default", &["proc", "vmstat", "mpstat", "iostat", "sar", "pidstat", "perf-stat"]),
    ("heavy", &["proc", "vmstat", "mpstat", "iostat", "sar", "pidstat", "perf-stat", "perf"]),
];

/// The profilers of a preset.
#[must_use]
pub fn preset(name: &str) -> Option<&'static [&'static str]> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, profilers)| *profilers)
}

/// A job file: `job.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobFile {
    /// A name for the run, part of its id.
    pub name: Option<String>,
    /// Machines to profile; without the key: this machine.
    #[serde(deserialize_with = "bounded")]
    #[schemars(schema_with = "list_or_text::<HostEntry>")]
    pub hosts: Vec<HostEntry>,
    /// Profilers to run on every host, or names of presets; without the key: the preset `light`.
    #[serde(deserialize_with = "profilers")]
    #[schemars(schema_with = "list_or_text::<ProfilerEntry>")]
    pub profilers: Vec<ProfilerEntry>,
    /// Groups of hosts, by name: hosts, and profilers for them.
    #[serde(deserialize_with = "groups::groups")]
    pub groups: BTreeMap<String, GroupSettings>,
    /// What to run in between; none: until interrupted.
    #[schemars(schema_with = "test_or_command")]
    pub test: Option<TestSpec>,
    /// Directory that takes the run's own directory.
    #[schemars(with = "Option<String>")]
    pub results: Option<Utf8PathBuf>,
    /// Which profilers must succeed for the run to succeed.
    pub require: Require,
    /// When clients end by themselves.
    pub limits: LimitSettings,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// Directory on the hosts under which clients are installed.
    pub tmpdir: Option<String>,
    /// Leave the clients' directories on the hosts.
    pub keep: bool,
    /// Leave the client's program on the hosts, so that the next run need not send it.
    pub keep_client: bool,
    /// How many hosts are connected to at the same time.
    #[serde(deserialize_with = "forks")]
    pub forks: Option<u32>,
    /// Run what takes root through sudo, where its rules allow exactly that.
    pub sudo: bool,
    /// How clients are signalled.
    pub signaler: Option<String>,
    /// How often results are brought back while the profilers still collect: what is lost with a host is at most what
    /// came after; none: only at the end.
    #[serde(deserialize_with = "checkpoint")]
    pub checkpoint: Option<Span>,
    /// Opens and closes windows by what the test prints; none: one window, around the test.
    pub windows: Option<WindowSettings>,
    /// Settings of the SSH transport.
    pub ssh: SshSettings,
}

/// Patterns in the test's output that open and close windows: each line of standard output and standard error is
/// searched, from its first byte, for a text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowSettings {
    /// A line with this in it opens a window.
    pub start: String,
    /// A line with this in it closes it.
    pub stop: String,
}

/// Settings of the SSH transport, for every host of the job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SshSettings {
    /// OpenSSH client configuration to read instead of `~/.ssh/config` and `/etc/ssh/ssh_config`; `none`: no file.
    pub config: Option<String>,
    /// OpenSSH options by their keywords, which come before the configuration.
    #[serde(deserialize_with = "ssh_options")]
    pub options: BTreeMap<String, String>,
    /// What to do about host keys.
    pub host_keys: Option<HostKeys>,
    /// The transport that reaches the hosts whose transport is `ssh`, such as `openssh`.
    pub transport: Option<String>,
}

/// What to do about host keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostKeys {
    /// Refuse unknown and changed keys.
    Strict,
    /// Remember unknown keys, refuse changed ones.
    AcceptNew,
    /// Take any key. Whoever can answer in a host's place then gets what is sent to it.
    Insecure,
}

impl HostKeys {
    /// The word for it in a host's options.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::AcceptNew => "accept-new",
            Self::Insecure => "insecure",
        }
    }
}

/// A host of a job file: text of the form `[user@]host[:port]`, with ranges, or a map.
#[derive(Debug, Clone, PartialEq)]
pub enum HostEntry {
    /// As on the command line; may stand for several hosts.
    Text(String),
    /// One host, described.
    Map(Box<HostMap>),
}

/// A host, described.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostMap {
    /// What to call it.
    pub name: String,
    /// Where it is, when that is not its name.
    pub address: Option<String>,
    /// User to log in as.
    pub user: Option<String>,
    /// Port, when it is not the usual one.
    pub port: Option<u16>,
    /// Private key file.
    #[schemars(with = "Option<String>")]
    pub identity_file: Option<Utf8PathBuf>,
    /// Hosts to go through, comma-separated.
    pub jump: Option<String>,
    /// Transport: `ssh`, `openssh` or `local`, or a plugin's.
    pub transport: Option<String>,
    /// Settings of the transport, by its own names.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Profilers of its own, instead of the job's and those that its groups put in their place.
    pub profilers: Option<Vec<ProfilerEntry>>,
}

/// A host of a job, read.
#[derive(Debug, Clone, PartialEq)]
pub struct JobHost {
    /// The host.
    pub host: Host,
    /// Profilers of its own, instead of the job's and those that its groups put in their place.
    pub own_profilers: Option<Vec<ProfilerSpec>>,
}

/// A profiler of a job file: a name with or without arguments, or a preset's name.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfilerEntry(pub ProfilerSpec);

/// What to run while the profilers collect: a map, or only the command.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TestSpec {
    /// Program and arguments as a list, or text for `sh -c`.
    pub command: TestCommand,
    /// Directory to run it in.
    #[schemars(with = "Option<String>")]
    pub directory: Option<Utf8PathBuf>,
    /// Environment on top of the controller's.
    #[schemars(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take; then it is ended, and the exit status is 124.
    pub timeout: Option<Span>,
    /// Names of environment variables of the test whose values are kept in the manifest; no other is.
    #[schemars(default)]
    pub record_env: Vec<String>,
}

/// A test's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCommand {
    /// Program and arguments, never empty.
    pub argv: Vec<String>,
}

/// When clients end by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// How long a client goes on without hearing from the controller (default 5 minutes in `run`; none in `start`).
    pub lease: Option<Span>,
    /// How long a client goes on at all (default 24 hours in `run`, 1 hour in `start`).
    pub max_duration: Option<Span>,
    /// How much of a host's disk all its profilers may take together, such as `500M` or `4G` (default: half of what is
    /// free, at most 2G).
    pub host_quota: Option<Size>,
    /// How much one profiler may take (default: half of the host's quota, or all of it where there is only one).
    pub profiler_quota: Option<Size>,
    /// Share of the host's file system that stays free, in percent (default 5, but at most 1 GiB).
    #[serde(deserialize_with = "keep_free")]
    pub keep_free: Option<u8>,
}

/// How long each step may take on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Connecting, from name to login, over all jump hosts.
    pub connect: Span,
    /// Finding a directory, and installing the client in it.
    pub install: Span,
    /// From the client's launch until it is ready.
    pub ready: Span,
    /// From the start signal until every profiler collects.
    pub start: Span,
    /// From the stop signal until every tool is gone.
    pub stop: Span,
    /// Making reports on the host.
    pub report: Span,
    /// With hardly any progress (less than 1 KiB/s) while results come back.
    pub collect: Span,
    /// Bringing all results of the host back, with every retry.
    pub transfer: Span,
    /// Removing the client from the host.
    pub clean: Span,
    /// Reaching a host again that was lost: how long it is tried.
    pub reconnect: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span::seconds(60),
            install: Span::seconds(60),
            ready: Span::seconds(60),
            start: Span::seconds(60),
            stop: Span::seconds(120),
            report: Span::seconds(300),
            collect: Span::seconds(60),
            transfer: Span::seconds(2 * 3600),
            clean: Span::seconds(30),
            reconnect: Span::seconds(300),
        }
    }
}

/// Which share of the hosts must be whole for the run to succeed: a host is whole when every profiler on it is `ok`,
/// or was `skipped` because only a preset asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Require {
    /// Every host.
    #[default]
    All,
    /// At least one host.
    Any,
    /// At least this share of the hosts, in percent.
    Percent(u8),
}

impl Require {
    /// Whether so many whole hosts of so many are enough.
    #[must_use]
    pub fn is_met(self, whole: usize, of: usize) -> bool {
        match self {
            Self::All => whole == of,
            Self::Any => whole > 0,
            Self::Percent(share) => whole * 100 >= usize::from(share) * of,
        }
    }
}

/// A requirement that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a requirement: write all, any, or a percentage such as 80%")]
pub struct BadRequire(String);

impl FromStr for Require {
    type Err = BadRequire;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "any" => Ok(Self::Any),
            _ => {
                let share = text.strip_suffix('%').and_then(|n| n.parse().ok()).filter(|n| *n <= 100);
                share.map(Self::Percent).ok_or_else(|| BadRequire(text.to_owned()))
            }
        }
    }
}

impl fmt::Display for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Any => f.write_str("any"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// A job file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BadJob {
    message: String,
    hint: Option<String>,
}

impl BadJob {
    /// What to write instead, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl JobFile {
    /// Reads a job file's text.
    ///
    /// # Errors
    /// For anything that is no job: the message names line and column.
    pub fn parse(text: &str) -> Result<Self, BadJob> {
        let root = yaml::nodes(text);
        let is_null =
            |node: &Node| matches!(&node.content, Content::Plain(text) if ["", "~", "null"].contains(&&**text));
        if matches!(&root, Ok(None)) || matches!(&root, Ok(Some(node)) if is_null(node)) {
            let hint = "name what to profile, such as `hosts: [web01]`; `autoprof init` writes a job file";
            return Err(BadJob { message: "the file is empty".to_owned(), hint: Some(hint.to_owned()) });
        }
        let root = root.ok().flatten();
        let mut job: Self = yaml::from_str(text).map_err(|e| {
            let hint = root.as_ref().and_then(|root| misspelled(root, &Self::schema()));
            BadJob { message: e.to_string(), hint }
        })?;
        if let Some(root) = &root {
            job.keep_written(root);
        }
        Ok(job)
    }

    /// Gives arguments of profilers back as they were written: `010`, `1.50`.
    fn keep_written(&mut self, root: &Node) {
        let entries = |list: &mut Vec<ProfilerEntry>, node: Option<&Node>| {
            let Some(Node { content: Content::List(nodes), .. }) = node else { return };
            for (ProfilerEntry(spec), node) in list.iter_mut().zip(nodes) {
                if let Content::Map(entries) = &node.content
                    && let Some((_, args)) = entries.first()
                {
                    args::keep_args(&mut spec.args, args);
                }
            }
        };
        entries(&mut self.profilers, root.get("profilers"));
        for (name, group) in &mut self.groups {
            let node = root.get("groups").and_then(|groups| groups.get(name));
            entries(&mut group.profilers, node.and_then(|group| group.get("profilers")));
            entries(&mut group.also, node.and_then(|group| group.get("also")));
        }
        if let Some(Node { content: Content::List(nodes), .. }) = root.get("hosts") {
            for (host, node) in self.hosts.iter_mut().zip(nodes) {
                if let HostEntry::Map(map) = host
                    && let Some(own) = &mut map.profilers
                {
                    entries(own, node.get("profilers"));
                }
            }
        }
    }

    /// The JSON Schema of job files.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(JobFile).to_value()
    }
}

/// What a key that is not known was meant to be, by the schema.
fn misspelled(node: &Node, schema: &serde_json::Value) -> Option<String> {
    let whole = schema;
    fn look(node: &Node, schema: &serde_json::Value, whole: &serde_json::Value) -> Option<String> {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => whole.pointer(reference.trim_start_matches('#'))?,
            None => schema,
        };
        // A key that may be left out is `anyOf` itself and null; a host is text or a map.
        if let Some(several) = schema["anyOf"].as_array() {
            return several.iter().find_map(|one| look(node, one, whole));
        }
        match &node.content {
            Content::Map(entries) => entries.iter().find_map(|(key, value)| {
                let (Content::Plain(key_text) | Content::Text(key_text)) = &key.content else { return None };
                if let Some(known) = schema["properties"].get(key_text) {
                    return look(value, known, whole);
                }
                if schema["additionalProperties"].is_object() {
                    return look(value, &schema["additionalProperties"], whole);
                }
                let names = schema["properties"].as_object()?.keys().map(String::as_str);
                let near = nearest(key_text, names)?;
                Some(format!("line {}: did you mean `{near}`?", key.line))
            }),
            Content::List(items) => items.iter().find_map(|item| look(item, &schema["items"], whole)),
            Content::Plain(_) | Content::Text(_) => None,
        }
    }
    look(node, schema, whole)
}

/// The schema of a list, or of text that stands for one.
pub(crate) fn list_or_text<T: JsonSchema>(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let list = generator.subschema_for::<Vec<T>>();
    schemars::json_schema!({ "anyOf": [list, { "type": "string" }] })
}

fn test_or_command(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let (map, command) = (generator.subschema_for::<TestSpec>(), generator.subschema_for::<TestCommand>());
    schemars::json_schema!({ "anyOf": [map, command, { "type": "null" }] })
}

/// One thing as text, where a list is wanted.
struct OneOrMore<T> {
    expecting: &'static str,
    one: fn(&str) -> Result<Vec<T>, String>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMore<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        (self.one)(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        not_none(list)
    }
}

/// Profilers as a list, or as text like that after `-p`.
pub(crate) fn profilers<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<ProfilerEntry>, D::Error> {
    d.deserialize_any(OneOrMore {
        expecting: "a list of profilers, such as [vmstat, perf]",
        one: |text| {
            let list = ProfilerSpec::list(text).map_err(|e| e.to_string())?;
            Ok(list.into_iter().map(ProfilerEntry).collect())
        },
    })
}

/// Hosts that are not more than there can be, ranges counted as what they stand for.
pub(crate) fn bounded<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<HostEntry>, D::Error> {
    struct HostsVisitor;
    impl<'de> Visitor<'de> for HostsVisitor {
        type Value = Vec<HostEntry>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of hosts, such as [web01, web02]")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<HostEntry>, E> {
            let entry = HostEntry::Text(text.to_owned());
            match entry.hosts().map_err(E::custom)?.len() {
                0 => Err(E::custom("hosts is empty: name a host, or leave the key out for this machine")),
                _ => Ok(vec![entry]),
            }
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<HostEntry>, A::Error> {
            let (mut entries, mut hosts) = (Vec::new(), 0);
            while let Some(entry) = seq.next_element::<HostEntry>()? {
                hosts += entry.hosts().map_err(A::Error::custom)?.len();
                if hosts > host::MAX_EXPANSION {
                    return Err(A::Error::custom(format!("more than {} hosts", host::MAX_EXPANSION)));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    d.deserialize_any(HostsVisitor).and_then(not_none)
}

/// How many at the same time: one at least.
/// Values of OpenSSH options: text, and what YAML takes for a number or a truth.
fn ssh_options<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Scalar(String);
    struct Seen;
    impl serde::de::Visitor<'_> for Seen {
        type Value = Scalar;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the value of an OpenSSH option")
        }
        fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
            Ok(Scalar(text.to_owned()))
        }
        fn visit_bool<E>(self, yes: bool) -> Result<Scalar, E> {
            Ok(Scalar(if yes { "yes" } else { "no" }.to_owned()))
        }
        fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
            Ok(Scalar(number.to_string()))
        }
        fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
            Ok(Scalar(number.to_string()))
        }
    }
    impl<'de> Deserialize<'de> for Scalar {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            d.deserialize_any(Seen)
        }
    }
    let options = BTreeMap::<String, Scalar>::deserialize(d)?;
    let one_line = |text: &str| !text.contains(['\n', '\0']);
    if let Some((key, _)) = options.iter().find(|(key, Scalar(value))| !one_line(key) || !one_line(value)) {
        return Err(serde::de::Error::custom(format!("the OpenSSH option {key:?} is not one line")));
    }
    Ok(options.into_iter().map(|(key, Scalar(value))| (key, value)).collect())
}

fn forks<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(d)? {
        Some(0) => Err(D::Error::custom("forks cannot be 0: leave the key out for the default")),
        other => Ok(other),
    }
}

/// How often: not all the time.
fn checkpoint<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Span>, D::Error> {
    match Option::<Span>::deserialize(d)? {
        Some(Span(time)) if time.is_zero() => {
            Err(D::Error::custom("checkpoint cannot be 0: leave the key out for none"))
        }
        other => Ok(other),
    }
}

/// A share of a whole.
fn keep_free<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u8>, D::Error> {
    match Option::<u8>::deserialize(d)? {
        Some(share) if share > 100 => {
            Err(D::Error::custom(format!("keep_free cannot be {share}: it is a share in percent")))
        }
        other => Ok(other),
    }
}

fn not_none<T, E: serde::de::Error>(list: Vec<T>) -> Result<Vec<T>, E> {
    if list.is_empty() {
        return Err(E::custom("the list is empty: name something, or leave the key out for the default"));
    }
    Ok(list)
}

impl HostEntry {
    /// The hosts that the entry stands for, each with the profilers of its own.
    ///
    /// # Errors
    /// When a name cannot be read.
    pub fn hosts(&self) -> Result<Vec<JobHost>, host::BadHost> {
        match self {
            Self::Text(text) => {
                let named = |name: &String| Ok(JobHost { host: name.parse()?, own_profilers: None });
                host::expand(text)?.iter().map(named).collect()
            }
            Self::Map(map) => {
                host::check_name(&map.name).map_err(|reason| host::BadHost { text: map.name.clone(), reason })?;
                let default = if map.name == host::LOCAL { host::LOCAL } else { "ssh" };
                let host = Host {
                    name: map.name.clone(),
                    address: map.address.clone(),
                    port: map.port,
                    user: map.user.clone(),
                    identity_file: map.identity_file.clone(),
                    jump: map.jump.clone(),
                    transport: map.transport.clone().unwrap_or_else(|| default.to_owned()),
                    options: map.options.clone(),
                    groups: BTreeSet::new(),
                };
                let own_profilers = map.profilers.as_ref().map(|list| list.iter().map(|p| p.0.clone()).collect());
                Ok(vec![JobHost { host, own_profilers }])
            }
        }
    }
}

impl<'de> Deserialize<'de> for HostEntry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = HostEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host: [user@]host[:port], or a map with a name")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HostEntry, E> {
                let entry = HostEntry::Text(text.to_owned());
                entry.hosts().map_err(E::custom)?;
                Ok(entry)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HostEntry, A::Error> {
                let map = HostMap::deserialize(MapAccessDeserializer::new(map))?;
                let entry = HostEntry::Map(Box::new(map));
                entry.hosts().map_err(A::Error::custom)?;
                Ok(entry)
            }
        }
        d.deserialize_any(EntryVisitor)
    }
}

impl<'de> Deserialize<'de> for ProfilerEntry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = ProfilerEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a profiler: its name, or a map of its name to its arguments")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ProfilerEntry, E> {
                let mut list = ProfilerSpec::list(text).map_err(E::custom)?;
                match (list.pop(), list.is_empty()) {
                    (Some(one), true) => Ok(ProfilerEntry(one)),
                    _ => Err(E::custom(format!("{text:?} is several profilers: write each as its own entry"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProfilerEntry, A::Error> {
                let (name, args): (String, Args) =
                    map.next_entry()?.ok_or_else(|| A::Error::custom("a profiler needs a name"))?;
                if let Some(second) = map.next_key::<String>()? {
                    let message = format!(
                        "{second:?} follows {name:?} in one entry: write each profiler as its own entry, with a - before it"
                    );
                    return Err(A::Error::custom(message));
                }
                // As on a command line, where it could not be written otherwise.
                if let Some(wrong) = args.named.keys().find(|key| !is_name(key)) {
                    return Err(A::Error::custom(format!("{name:?}: {wrong:?} is not the name of a parameter")));
                }
                let spec: ProfilerSpec = name.parse().map_err(A::Error::custom)?;
                if !spec.args.is_empty() {
                    return Err(A::Error::custom(format!("{name:?}: arguments go into the map, not into the name")));
                }
                Ok(ProfilerEntry(ProfilerSpec { name: spec.name, args }))
            }
        }
        d.deserialize_any(EntryVisitor)
    }
}

impl TestCommand {
    /// Text for `sh -c`.
    fn of_text<E: serde::de::Error>(text: &str) -> Result<Self, E> {
        if text.trim().is_empty() {
            return Err(E::custom("the test's command is empty"));
        }
        Ok(Self { argv: ["sh", "-c", text].map(str::to_owned).to_vec() })
    }
}

impl From<TestCommand> for TestSpec {
    fn from(command: TestCommand) -> Self {
        Self { command, directory: None, env: BTreeMap::new(), timeout: None, record_env: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for TestSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        /// The map of a test.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct TestMap {
            command: TestCommand,
            directory: Option<Utf8PathBuf>,
            #[serde(default)]
            env: BTreeMap<String, String>,
            timeout: Option<Span>,
            #[serde(default)]
            record_env: Vec<String>,
        }
        struct TestVisitor;
        impl<'de> Visitor<'de> for TestVisitor {
            type Value = TestSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a test: a map with a command, or the command itself as a list or text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TestSpec, E> {
                TestCommand::of_text(text).map(TestSpec::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<TestSpec, A::Error> {
                TestCommand::deserialize(serde::de::value::SeqAccessDeserializer::new(seq)).map(TestSpec::from)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TestSpec, A::Error> {
                let TestMap { command, directory, env, timeout, record_env } =
                    TestMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(TestSpec { command, directory, env, timeout, record_env })
            }
        }
        d.deserialize_any(TestVisitor)
    }
}

impl<'de> Deserialize<'de> for TestCommand {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct CommandVisitor;
        impl<'de> Visitor<'de> for CommandVisitor {
            type Value = TestCommand;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a list of program and arguments, or text for sh -c")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TestCommand, E> {
                TestCommand::of_text(text)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<TestCommand, A::Error> {
                let mut argv = Vec::new();
                while let Some(word) = seq.next_element::<String>()? {
                    argv.push(word);
                }
                if argv.is_empty() {
                    return Err(A::Error::custom("the test's command is empty"));
                }
                Ok(TestCommand { argv })
            }
        }
        d.deserialize_any(CommandVisitor)
    }
}

impl Serialize for Require {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Require {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

macro_rules! described_schema {
    ($($name:ident: $schema:tt),* $(,)?) => {
        $(impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let _ = &generator;
                schemars::json_schema!($schema)
            }
        })*
    };
}
described_schema! {
    Require: {
        "description": "all, any, or a percentage such as 80%",
        "type": "string",
        "pattern": "^(all|any|([0-9]|[1-9][0-9]|100)%)$"
    },
    TestCommand: {
        "description": "program and arguments as a list, or text for sh -c",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
    },
    ProfilerEntry: {
        "description": "a profiler's name, or a map of its name to its arguments",
        "anyOf": [{ "type": "string" }, { "type": "object", "minProperties": 1, "maxProperties": 1 }]
    },
}

impl JsonSchema for HostEntry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HostEntry".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let map = generator.subschema_for::<HostMap>();
        schemars::json_schema!({
            "description": "[user@]host[:port] with ranges such as web[01-16], or a map",
            "anyOf": [{ "type": "string" }, map]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "
name: nightly
hosts:
  - web[01-02]
  - {name: db, address: 10.0.0.5, user: root, port: 2222, jump: gate, profilers: [vmstat]}
profilers:
  - light
  - vmstat: [5]
  - perf: {frequency: 49, events: [cpu-clock]}
  - command:argv=[echo, hi]
groups: {front: {hosts: ['web[01-02]'], also: [sar]}}
test: {command: [./load.sh, --rate, '500'], env: {A: b}, timeout: 10m}
require: 80%
limits: {max_duration: 2h}
timeouts: {start: 5}
";

    fn error(text: &str) -> String {
        JobFile::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn numbers_that_could_not_be_meant_are_refused_by_name() {
        for (text, why) in [
            ("forks: 0", "forks cannot be 0"),
            ("checkpoint: 0", "checkpoint cannot be 0"),
            ("limits:\n  keep_free: 101\n", "keep_free cannot be 101"),
        ] {
            let said = JobFile::parse(text).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
        let job = JobFile::parse("forks: 1\nlimits: {keep_free: 100}\ncheckpoint: 0.5").unwrap();
        assert_eq!((job.forks, job.limits.keep_free), (Some(1), Some(100)));
        assert!(job.checkpoint.is_some());
    }

    #[test]
    fn a_whole_job_is_read() {
        let job = JobFile::parse(WHOLE).unwrap();
        let hosts: Vec<_> = job.hosts.iter().flat_map(|h| h.hosts().unwrap()).collect();
        assert_eq!(hosts.iter().map(|h| h.host.name.as_str()).collect::<Vec<_>>(), ["web01", "web02", "db"]);
        assert_eq!(hosts[2].own_profilers.as_ref().unwrap()[0].name, "vmstat");
        assert_eq!(job.profilers[1].0.args.positional, [5.into()]);
        assert_eq!(job.require, Require::Percent(80));
        assert_eq!(job.timeouts.start, Span::seconds(5));
        assert_eq!(job.timeouts.stop, Timeouts::default().stop);
    }

    #[test]
    fn one_thing_may_stand_for_a_list() {
        let job = JobFile::parse("hosts: web[1-2]\nprofilers: light, perf:49\ntest: sleep 1\n").unwrap();
        assert_eq!(job.hosts.iter().map(|h| h.hosts().unwrap().len()).sum::<usize>(), 2);
        assert_eq!(job.profilers.len(), 2);
        assert_eq!(job.test.unwrap().command.argv, ["sh", "-c", "sleep 1"]);
        let list = JobFile::parse("test: [sleep, '1']\n").unwrap();
        assert_eq!(list.test.unwrap().command.argv, ["sleep", "1"]);
        assert!(error("test: ''\n").contains("the test's command is empty"));
        assert!(error("hosts: ''\n").contains("hosts is empty"));
        assert!(error("profilers:\n- light,perf\n").contains("write each as its own entry"));
    }

    #[test]
    fn an_empty_file_and_a_misspelled_key_are_told_what_to_write() {
        for text in ["", "# nothing\n", "---\n"] {
            let said = JobFile::parse(text).unwrap_err();
            assert_eq!(said.to_string(), "the file is empty", "{text:?}");
            assert!(said.hint().unwrap().contains("autoprof init"));
        }
        for (text, hint) in [
            ("hosts: [a]\nprofiler: [vmstat]\n", "line 2: did you mean `profilers`?"),
            ("test: {comand: x}\n", "line 1: did you mean `command`?"),
            ("hosts:\n- name: a\n  adress: b\n", "line 3: did you mean `address`?"),
            ("groups:\n  db: {hots: [a]}\n", "line 2: did you mean `hosts`?"),
            ("timeouts: {conect: 5}\n", "line 1: did you mean `connect`?"),
        ] {
            assert_eq!(JobFile::parse(text).unwrap_err().hint(), Some(hint), "{text}");
        }
        assert_eq!(JobFile::parse("zzzzzzzz: 1\n").unwrap_err().hint(), None);
    }

    #[test]
    fn arguments_keep_the_form_in_which_they_were_written() {
        let text = "
hosts:
- {name: a, profilers: [x: {k: 1.50}]}
- b
profilers: [perf: {cpus: 0, a: 0x10, b: [1e3, 010], c: +5, d: yes}, vmstat: 0x5]
groups: {g: {also: [x: [1.0]]}}
";
        let job = JobFile::parse(text).unwrap();
        assert_eq!(job.profilers[0].0.to_string(), "perf:a=\"0x10\",b=[\"1e3\", \"010\"],c=\"+5\",cpus=0,d=\"yes\"");
        assert_eq!(job.profilers[1].0.to_string(), "vmstat:\"0x5\"");
        assert_eq!(job.groups["g"].also[0].0.to_string(), "x:1.0");
        let HostEntry::Map(host) = &job.hosts[0] else { panic!("no map") };
        assert_eq!(host.profilers.as_ref().unwrap()[0].0.to_string(), "x:k=\"1.50\"");
    }

    #[test]
    fn errors_say_where() {
        assert_eq!(
            error("hosts: [a]\nprofiler: [vmstat]\n").split(", expected").next().unwrap(),
            "unknown field `profiler`"
        );
        assert!(error("hosts: [a]\nprofiler: [vmstat]\n").ends_with("at line 2 column 1"));
        assert_eq!(
            error("hosts:\n  - a\n  - 'b c'\n"),
            "hosts[1]: cannot read host \"b c\": a host's name cannot have ' ' at line 3 column 5"
        );
        assert!(error("hosts: []\n").contains("the list is empty"), "{}", error("hosts: []\n"));
        assert!(error("test:\n  command: []\n").contains("the test's command is empty"));
        assert!(error("require: most\n").contains("write all, any, or a percentage"));
        assert!(error("profilers:\n- vmstat: 5\n  perf: {}\n").contains("each profiler as its own entry"));
        assert!(error("profilers:\n- perf: {2.a b: 1}\n").contains("\"2.a b\" is not the name of a parameter"));
        assert!(error("hosts: ['a[1-60000]', 'b[1-60000]']").contains("more than 100000 hosts"));
        assert!(error("timeouts: {start: soon}").contains("is not a span of time"));
        assert!(error("hosts: [").contains("at line 2 column 1"), "{}", error("hosts: ["));
    }

    #[test]
    fn the_schema_knows_every_key_of_the_example() {
        let schema = JobFile::schema();
        let example: serde_json::Value = serde_yaml::from_str(WHOLE).unwrap();
        for key in example.as_object().unwrap().keys() {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn requirements_count_whole_hosts() {
        assert!(Require::All.is_met(3, 3) && !Require::All.is_met(2, 3));
        assert!(Require::Any.is_met(1, 3) && !Require::Any.is_met(0, 3));
        assert!(Require::Percent(66).is_met(2, 3) && !Require::Percent(67).is_met(2, 3));
        assert!("101%".parse::<Require>().is_err() && "most".parse::<Require>().is_err());
    }
}
