//! What is wrong with an inventory, and where.
use std::fmt;

use camino::Utf8PathBuf;

use super::{ranges::BadRange, vars::NotText};
use crate::{
    host::{BadHost, MAX_EXPANSION},
    yaml::YamlError,
};

/// An inventory, or a host of one, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadInventory {
    /// The file, where it is known.
    pub file: Option<Utf8PathBuf>,
    /// The line in the file, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for BadInventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: {}", self.problem),
            (Some(file), None) => write!(f, "{file}: {}", self.problem),
            (None, Some(line)) => write!(f, "line {line}: {}", self.problem),
            (None, None) => write!(f, "{}", self.problem),
        }
    }
}

impl std::error::Error for BadInventory {}

impl BadInventory {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match &self.problem {
            Problem::Plugin(_) | Problem::Script => {
                "pass what Ansible makes of it: `ansible-inventory -i FILE --list > hosts.json`, then -H hosts.json"
            }
            Problem::Encrypted => {
                "decrypt it first: `ansible-inventory -i FILE --list > hosts.json` (mode 600), then -H hosts.json"
            }
            Problem::Value { what: NotText::Encrypted | NotText::Template(_), .. } => {
                "leave the host out with -x, or pass what Ansible makes of it: `ansible-inventory -i FILE --list --export > hosts.json`"
            }
            Problem::Value { .. } | Problem::Port { .. } | Problem::Address { .. } => {
                "correct the variable, or leave the host out with -x"
            }
            Problem::Connection { .. } => {
                "autoprof reaches hosts with the connections ssh and local; leave the host out with -x"
            }
            Problem::Range(_) => "a range of an inventory is [01:50], [1:9:2] or [a:f]",
            Problem::NotAMap { .. } | Problem::HostWithSpace(_) | Problem::HostVars(_) => {
                "write each name as a key of its own, with a colon: `web01:`"
            }
            Problem::UnknownKey { .. } => "a group has `hosts`, `vars` and `children`",
            Problem::Section(_) | Problem::SectionKind { .. } => {
                "a section is [GROUP], [GROUP:children] or [GROUP:vars]"
            }
            Problem::Undefined { .. } => "add a section [GROUP] for it",
            Problem::NotKeyValue(_) | Problem::Quotes(_) => {
                "a line of an INI inventory is HOST KEY=VALUE ...; quote a value with spaces"
            }
            _ => {
                "a file of hosts has one host a line, HOST or HOST,LABEL, or is an Ansible inventory (INI, YAML or JSON)"
            }
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A file that cannot be read.
    #[error("cannot read the file: {0}")]
    Read(String),
    /// A name that can be no host's.
    #[error(transparent)]
    Host(#[from] BadHost),
    /// A range that cannot be expanded.
    #[error(transparent)]
    Range(#[from] BadRange),
    /// YAML or JSON that cannot be read.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// More hosts than there can be.
    #[error("more than {MAX_EXPANSION} hosts")]
    TooManyHosts,
    /// A program that prints an inventory.
    #[error("the file is a script: inventory scripts are not run")]
    Script,
    /// The configuration of an inventory plugin.
    #[error("the file configures the inventory plugin {0:?}: inventory plugins are not run")]
    Plugin(String),
    /// A file that is encrypted as a whole.
    #[error("the file is encrypted with ansible-vault")]
    Encrypted,
    /// A line in brackets that is no section.
    #[error("{0:?} is not a section")]
    Section(String),
    /// A section of an unknown kind.
    #[error("section [{group}:{kind}] has an unknown kind")]
    SectionKind {
        /// The group.
        group: String,
        /// What follows the colon.
        kind: String,
    },
    /// A group that is used and never defined.
    #[error("section [{by}] names the group {group:?}, which is not defined")]
    Undefined {
        /// The group.
        group: String,
        /// Where it is named.
        by: String,
    },
    /// A group that is in itself.
    #[error("the group {0:?} contains itself")]
    Cycle(String),
    /// A name that can be no group's.
    #[error("{0:?} cannot be the name of a group")]
    GroupName(String),
    /// A group's priority that is no number.
    #[error("ansible_group_priority of {group} is {value:?}, which is not a whole number")]
    Priority {
        /// The group.
        group: String,
        /// The value.
        value: String,
    },
    /// A word where KEY=VALUE is wanted.
    #[error("expected KEY=VALUE, not {0:?}")]
    NotKeyValue(String),
    /// Quotes that are not closed.
    #[error("a quote is not closed in {0:?}")]
    Quotes(String),
    /// A list or a scalar where a map is needed.
    #[error("{key:?} of the group {group:?} is {what}, and must be a map")]
    NotAMap {
        /// The group.
        group: String,
        /// The key.
        key: String,
        /// What it is.
        what: &'static str,
    },
    /// Something else than a map of groups.
    #[error("expected a map of groups, not {0}")]
    NotGroups(&'static str),
    /// A group that is no map.
    #[error("the group {group:?} is {what}, and must be a map with hosts, vars or children")]
    NotAGroup {
        /// The group.
        group: String,
        /// What it is.
        what: &'static str,
    },
    /// A key of a group that nobody knows.
    #[error("unknown key {key:?} in the group {group:?}")]
    UnknownKey {
        /// The group.
        group: String,
        /// The key.
        key: String,
    },
    /// A key that is not text.
    #[error("a name must be text, and {0} is not: write it in quotes")]
    NotTextKey(String),
    /// Several hosts in one scalar.
    #[error("{0:?} has spaces, and must be the name of one host")]
    HostWithSpace(String),
    /// Variables of a host that are no map.
    #[error("the variables of the host {0:?} must be a map")]
    HostVars(String),
    /// A list of a script's output that is none, or has something else than names.
    #[error("{key:?} of the group {group:?} must be a list of names")]
    NotNames {
        /// The group.
        group: String,
        /// The key.
        key: &'static str,
    },
    /// Variables in a file that are no map.
    #[error("variables must be a map of names to values")]
    NotVars,
    /// A variable that cannot be used.
    #[error("{host}: cannot use {variable}: it is {what}")]
    Value {
        /// The host.
        host: String,
        /// The variable.
        variable: &'static str,
        /// What it is.
        what: NotText,
    },
    /// A port that is none.
    #[error("{host}: {value:?} is not a port")]
    Port {
        /// The host.
        host: String,
        /// The value.
        value: String,
    },
    /// An address that is none.
    #[error("{host}: cannot use the address {value:?}: {reason}")]
    Address {
        /// The host.
        host: String,
        /// The value.
        value: String,
        /// Why.
        reason: String,
    },
    /// A connection that autoprof does not have.
    #[error("{host}: ansible_connection is {connection:?}, which autoprof does not have")]
    Connection {
        /// The host.
        host: String,
        /// The connection.
        connection: String,
    },
}
