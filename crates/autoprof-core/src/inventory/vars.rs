//! Variables of hosts and groups: those that say how a host is reached, and no other.
use std::{collections::BTreeMap, fmt};

use super::literal;
use crate::yaml::{Content, Node};

/// Names of the variables that are used or warned about; of two for the same thing the later one counts, as in
/// Ansible's `connection/ssh.py`.
const USED: [&str; 12] = [
    "ansible_connection",
    "ansible_host",
    "ansible_ssh_host",
    "ansible_port",
    "ansible_ssh_port",
    "ansible_user",
    "ansible_ssh_user",
    "ansible_private_key_file",
    "ansible_ssh_private_key_file",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
];

/// The variable that orders groups of one depth.
pub(super) const PRIORITY: &str = "ansible_group_priority";

/// A value as Ansible has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// None, null.
    Null,
    /// Text, perhaps a template.
    Text(String),
    /// A number or boolean, as Python writes it.
    Scalar(String),
    /// Something else.
    Other(NotText),
}

/// Why a value cannot stand for a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotText {
    /// A list.
    List,
    /// A map.
    Map,
    /// Encrypted by ansible-vault.
    Encrypted,
    /// A template.
    Template(String),
    /// YAML with a tag that is not known.
    Tagged(String),
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("a list"),
            Self::Map => f.write_str("a map"),
            Self::Encrypted => f.write_str("encrypted (!vault), and autoprof does not decrypt"),
            Self::Template(text) => write!(f, "a template ({text}), and autoprof does not evaluate templates"),
            Self::Tagged(tag) => write!(f, "tagged {tag}"),
        }
    }
}

impl Value {
    /// The text that it stands for; none for null and for empty text.
    pub(super) fn text(&self) -> Result<Option<String>, NotText> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) => {
                Err(NotText::Template(text.clone()))
            }
            Self::Text(text) | Self::Scalar(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Self::Other(what) => Err(what.clone()),
        }
    }

    /// A value of YAML, read as PyYAML reads it.
    pub(super) fn of_yaml(node: &Node) -> Self {
        match (node.tag.as_deref(), &node.content) {
            (Some("!vault" | "!vault-encrypted"), _) => Self::Other(NotText::Encrypted),
            (None, Content::Plain(text)) => literal::yaml_plain(text),
            (None | Some("!unsafe" | "!" | "tag:yaml.org,2002:str"), Content::Plain(text) | Content::Text(text)) => {
                Self::Text(text.clone())
            }
            (None, Content::List(_)) => Self::Other(NotText::List),
            // What `ansible-inventory --list` writes for an encrypted value.
            (None, Content::Map(entries)) if entries.iter().any(|(key, _)| is_key(key, "__ansible_vault")) => {
                Self::Other(NotText::Encrypted)
            }
            (None, Content::Map(entries)) => match entries.iter().find(|(key, _)| is_key(key, "__ansible_unsafe")) {
                Some((_, value)) => Self::of_yaml(value),
                None => Self::Other(NotText::Map),
            },
            (Some(tag), _) => Self::Other(NotText::Tagged(tag.to_owned())),
        }
    }
}

fn is_key(node: &Node, name: &str) -> bool {
    matches!(&node.content, Content::Plain(text) | Content::Text(text) if text == name)
}

/// Where something is said: which file, which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) line: usize,
}

/// Variables with where each was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Vars(BTreeMap<&'static str, (Value, Place)>);

impl Vars {
    /// Sets a variable, where it is one that is used.
    pub(super) fn set(&mut self, name: &str, value: Value, place: Place) {
        if let Some(name) = USED.iter().find(|used| **used == name) {
            self.0.insert(name, (value, place));
        }
    }

    /// Puts others over these.
    pub(super) fn extend(&mut self, over: &Self) {
        self.0.extend(over.0.iter().map(|(name, value)| (*name, value.clone())));
    }

    /// The last of some that is not null.
    pub(super) fn last(&self, names: [&'static str; 2]) -> Option<(&'static str, &Value, Place)> {
        let mut said =
            names.into_iter().filter_map(|name| self.0.get(name).map(|(value, place)| (name, value, *place)));
        said.rfind(|(_, value, _)| **value != Value::Null)
    }
}
